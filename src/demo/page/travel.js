/* ---- what travels ---- */
function json(value) {
  const pre = el("pre"), text = JSON.stringify(value, null, 2);
  const token = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|-?\d+(?:\.\d+)?/g;
  let at = 0;
  for (const m of text.matchAll(token)) {
    pre.append(text.slice(at, m.index), el("span", m[1] ? (m[2] ? "k" : "s") : m[3] ? "w" : "n", m[1] || m[0]));
    if (m[2]) pre.append(m[2]);
    at = m.index + m[0].length;
  }
  pre.append(text.slice(at));
  return pre;
}
function card({ what, route, call, halves = [] }) {
  $("empty").hidden = true;
  const box = el("li", "card " + trip.wallet), head = el("header"), how = el("span", "how wait", "…"), body = el("div", "halves");
  head.append(el("span", "nth", String($("travel").children.length + 1)), el("span", "what", what), el("span", "route", route || ""));
  if (call) head.append(el("code", "", call));
  head.append(how); box.append(head, body); $("travel").append(box);
  const half = (title, node) => { const h = el("div", "half"); h.append(el("h4", "", title), node); body.append(h); $("right").scrollTop = $("right").scrollHeight; return h; };
  halves.forEach(([title, node]) => half(title, node));
  $("right").scrollTop = $("right").scrollHeight;
  return { half, body, say(text, kind) { how.textContent = text; how.className = "how " + (kind || ""); } };
}
/* One call of the page: shown with its body and its answer. */
async function call(what, route, method, path, body) {
  const shown = card({ what, route, call: method + " " + path });
  if (body) shown.half("request body", json(body));
  const began = performance.now();
  try {
    const answer = await fetch(path, { method, headers: body ? { "Content-Type": "application/json; charset=utf-8" } : {}, body: body && JSON.stringify(body) });
    const value = await answer.json(), ms = Math.round(performance.now() - began);
    const refused = !answer.ok || (value.code !== undefined && value.errCode && value.code !== "200");
    shown.say(answer.status + (refused && value.errCode ? " / " + value.errCode : "") + " · " + ms + " ms", !answer.ok ? "bad" : refused ? "wait" : "");
    shown.half("answer", json(value));
    return value;
  } catch (error) {
    shown.say("no answer", "bad"); shown.half("answer", el("pre", "", String(error)));
    return { msg: "网络异常，演示程序是否还在运行？" };
  }
}
const SAID = {
  "prepay request": "a worker asks for a payment order, signed with the merchant's key",
  "prepay created": "signature good; the number exists and can be paid",
  "prepay repeated": "the same order again, the same number",
  "query request": "asked about the number", "query queried": "told its state",
  "close request": "asked to close the number", "close closed": "closed; nobody can pay this number any more",
  "cashier paid": "the payer paid at the cashier", "cashier not_paid": "the payer did not pay",
  "notify notice_sent": "a signed notification leaves for the front", "notify notice_accepted": "the front answered success: verified, and kept by the queue",
  "notify notice_failed": "not taken; it will be sent again",
  "notify notice_lost": "lost on its way: nobody hears of it",
  "refund request": "asked to give money back", "refund refund_accepted": "accepted: the money will go back", "refund refunded": "the money went back",
  "refund refund_failed": "ended without its money", "refund_query request": "asked about the refund", "refund_query queried": "told its state",
  "refund_notify notice_sent": "a signed notification of the refund leaves for the front", "refund_notify notice_accepted": "the front answered success",
  "refund_notify notice_failed": "not taken; it will be sent again", "refund_notify notice_lost": "lost on its way: nobody hears of it",
};
/* The wallet's own notes since the last look. Answers whether its notification was taken. */
async function ledger(title) {
  const mine = turn, answer = await (await fetch("/demo/order/" + trip.order.orderNo)).json();
  if (mine !== turn || !answer.wallet) return { accepted: false };
  const fresh = answer.wallet.filter((line) => line.sequence > trip.seen);
  // Who turned away at the cashier was shown when it happened.
  const lines = fresh.filter((line) => line.event !== "not_paid");
  const accepted = answer.wallet.some((line) => line.event === "notice_accepted");
  if (fresh.length) trip.seen = fresh[fresh.length - 1].sequence;
  if (lines.length) {
    const table = el("table"), notice = lines.some((line) => line.call === "notify");
    for (const line of lines) {
      const row = el("tr", line.event === "paid" || line.event === "notice_accepted" ? "good" : ""), time = new Date(line.at_ms);
      const key = line.call + " " + line.event, more = [line.error, line.note, line.amount_fen && "¥" + (line.amount_fen / 100).toFixed(2)].filter(Boolean).join(" · ");
      row.append(el("td", "", time.toLocaleTimeString("zh-CN", { hour12: false }) + "." + String(time.getMilliseconds()).padStart(3, "0")), el("td", "", line.call), el("td", "", "…" + (line.out_trade_no || "").slice(-6)), el("td", "", (SAID[key] || line.event) + (more ? " — " + more : "")));
      table.append(row);
    }
    const shown = card({ what: title || (notice ? "The notification arrives" : "Behind the queue"), route: notice ? "wallet → front → queue → worker" : "worker ↔ wallet, as the wallet noted it" });
    shown.half("the wallet's ledger, by the end of our number", table);
    shown.say(lines.length + (lines.length > 1 ? " lines" : " line"));
  }
  return { accepted, order: answer.order };
}
function listChecks(list, checks) {
  list.textContent = "";
  for (const c of checks) list.append(el("li", c.passed === true ? "yes" : c.passed === false ? "no" : "skip", c.check));
}
