
/* ---- the merchant beside the phone ---- */
const MODES = {
  usual: "照常：付款后通知立刻到达，订单随即变为已支付。",
  late: "迟到：通知晚 8 秒才出发。订单靠主动询问先变为已支付，迟到的通知什么也不改变。",
  lost: "丢失：通知永远不到。30 秒内系统自己去问钱包，订单照样变为已支付。",
  doubled: "重复：每条通知同时到两次。订单只支付一次，商户只收到一条 PAY 事件。",
  forged: "伪造：通知不是钱包签的。它被拒收，什么也不会因它发生；真相由系统主动询问得知。",
};
const KINDS = { PAY: "支付", REFUND: "退款", CLOSE: "关单" };
const REFUND = { PROCESSING: ["退款中", "wait"], SUCCESS: ["已退款", "good"], FAIL: ["失败", "bad"], ABNORMAL: ["异常", "bad"] };
const TROUBLES = { headers: "缺少 webhook 头", timestamp: "时间戳相差超过 5 分钟", signature: "签名不对", number: "编号与正文不符" };
const yuan = (fen) => "¥" + (fen / 100).toFixed(2);
const tail = (text, n = 8) => "…" + String(text).slice(-n);
const at = (ms) => new Date(ms).toLocaleTimeString("zh-CN", { hour12: false });
const post = (path, body) => fetch(path, { method: "POST", headers: { "Content-Type": "application/json; charset=utf-8" }, body: JSON.stringify(body) });
const desk = { order: null, acting: false, latest: 0, shown: "" };
let mode = "usual";

/* Yuan as typed, in fen; null for what is no amount. No fractions on the way. */
function fen(text) {
  const m = /^(\d{1,7})(?:\.(\d{1,2}))?$/.exec(text.trim());
  return m && Number(m[1]) * 100 + Number((m[2] || "").padEnd(2, "0"));
}
/* What of the payment no refund holds yet. */
function left(order) {
  const held = order.refunds.filter((r) => r.outTradeNo === order.outTradeNo && r.refundStatus !== "FAIL");
  return order.orderAmount - held.reduce((sum, r) => sum + r.refundAmount, 0);
}
function fill(list, rows, none) {
  list.textContent = "";
  if (!rows.length) list.append(el("li", "none", none));
  for (const [key, text, value, kind, more] of rows) {
    const row = el("li"), last = el("span", kind || "", value);
    if (more) last.append(el("small", "", more));
    row.append(el("span", "", key), el("span", "", text), last); list.append(row);
  }
}
function drawDesk() {
  const order = trip.order && desk.order && desk.order.orderNo === trip.order.orderNo ? desk.order : null;
  if (desk.shown !== (trip.order ? trip.order.orderNo : "")) {
    desk.shown = trip.order ? trip.order.orderNo : ""; $("desk-says").textContent = ""; $("desk-fen").value = "";
    markEvents();
  }
  $("desk-none").hidden = !!order; $("desk-order").hidden = !order;
  if (!order) { $("desk-no").textContent = $("desk-status").textContent = ""; return; }
  const paid = order.payStatus === "SUCCESS", rest = paid ? left(order) : 0;
  $("desk-no").textContent = tail(order.orderNo, 10); $("desk-status").textContent = order.payStatus; $("desk-status").className = order.payStatus === "CLOSE" ? "bad" : paid ? "good" : "wait";
  $("desk-amount").textContent = yuan(order.orderAmount);
  $("desk-paid").textContent = order.payAmount === undefined ? "—" : yuan(order.payAmount);
  $("desk-refunded").textContent = yuan(order.refundedAmount);
  fill($("desk-attempts"), order.attempts.map((a) => [a.payType, tail(a.outTradeNo), a.status, a.status === "PAID" ? "good" : ""]), "还没有人下单");
  fill($("desk-anomalies"), order.anomalies.map((a) => [a.kind, tail(a.outTradeNo), a.handled, "wait", a.detail]), "没有");
  fill($("desk-refunds"), order.refunds.map((r) => [tail(r.refundNo, 6), yuan(r.refundAmount), ...(REFUND[r.refundStatus] || [r.refundStatus, ""]), r.failReason || r.hint]), "没有");
  $("desk-back").hidden = !(paid && rest > 0); $("desk-shut").hidden = paid || order.payStatus === "CLOSE";
  $("desk-rest").textContent = "退剩余 " + yuan(rest);
  for (const id of ["desk-some", "desk-rest", "desk-close"]) $(id).disabled = desk.acting;
}
/* A read that fails leaves what is shown: the next one comes soon. */
async function lookAtOrder() {
  if (!trip.order) return drawDesk();
  const answer = await (await fetch("/demo/order/" + trip.order.orderNo)).json();
  if (answer.order && trip.order && answer.order.orderNo === trip.order.orderNo) desk.order = answer.order;
  drawDesk();
}
/* One more on top; what is open further down stays open. */
function showEvent(e) {
  const item = el("li"), row = el("div", "row"), more = el("details");
  row.append(el("span", "", at(e.atMs)), el("b", "", (KINDS[e.eventType] || "") + " " + (e.eventType || "?")), el("span", "", "#" + (e.sequence || "?")), el("span", "mine", "本单"));
  row.append(e.verified ? el("span", "good", e.repeated ? "验签通过 · 重复，不再处理" : "验签通过") : el("span", "bad", "不可信：" + (TROUBLES[e.trouble] || e.trouble)));
  let body = el("pre", "", e.body);
  try { body = json(JSON.parse(e.body)); } catch { /* shown as it came */ }
  more.append(el("summary", "", "webhook-id " + (e.webhookId || "—")), body);
  item.dataset.order = e.orderNo || ""; item.append(row, more);
  $("events").prepend(item); $("events-none").hidden = true;
  while ($("events").children.length > 200) $("events").lastElementChild.remove();
}
function markEvents() {
  for (const item of $("events").children) item.querySelector(".mine").hidden = !trip.order || item.dataset.order !== trip.order.orderNo;
}
async function lookAtEvents() {
  const { events } = await (await fetch("/demo/events?after=" + desk.latest)).json();
  if (!events.length) return false;
  desk.latest = events[0].nth;
  events.reverse().forEach(showEvent);
  markEvents();
  return true;
}
/* Looks while somebody sees it; an order that is at rest is read again when an event came. */
async function watch() {
  for (let first = true; ; first = false) {
    try {
      if (first) showMode((await (await fetch("/demo/notices")).json()).mode);
      const news = !document.hidden && await lookAtEvents(), order = desk.order;
      const resting = order && trip.order && order.orderNo === trip.order.orderNo && (order.payStatus === "CLOSE" || order.payStatus === "SUCCESS") && order.refunds.every((r) => r.refundStatus !== "PROCESSING");
      if (!document.hidden && (news || !resting)) await lookAtOrder();
    } catch { /* the demo is away for a moment */ }
    await later(1200);
  }
}
const acts = (work) => async () => {
  if (desk.acting || !trip.order) return;
  desk.acting = true; drawDesk();
  try { await work(trip.order.orderNo); await lookAtOrder(); } catch (error) { $("desk-says").textContent = "出错了：" + error; } finally { desk.acting = false; drawDesk(); }
};
const refund = (amountOf) => acts(async (no) => {
  const amount = amountOf();
  if (!amount) { $("desk-says").textContent = "请输入退款金额，如 1 或 0.50"; return; }
  $("desk-says").textContent = "正在退款 " + yuan(amount) + "…";
  const answer = await call("商户退款", "商户 → front，签名 · POST /api/v1/refunds", "POST", "/demo/order/" + no + "/refund", { amount });
  $("desk-says").textContent = answer.data ? "退款 " + yuan(amount) + "：" + (REFUND[answer.data.refundStatus] || [answer.data.refundStatus])[0] : "被拒绝：" + (answer.msg || answer.error);
  if (answer.data) $("desk-fen").value = "";
  if (trip.order) await ledger("退款到了钱包");
});
const shut = acts(async (no) => {
  $("desk-says").textContent = "正在关闭，先等钱包确认不能再付款…";
  const answer = await call("商户关单", "商户 → front，签名 · POST /api/v1/orders/" + tail(no) + "/close", "POST", "/demo/order/" + no + "/close");
  const told = answer.data;
  $("desk-says").textContent = !told ? "被拒绝：" + (answer.msg || answer.error) : told.status === "CLOSE" ? "已关闭：谁也不能再付这一单" : "没有关闭：" + (STATUS[told.payStatus] || told.payStatus);
  if (trip.order) await ledger("关单到了钱包");
  if (told && told.status === "CLOSE" && trip.info) { trip.info.payStatus = "CLOSE"; draw(); }
});
function showMode(name) {
  mode = name; $("mode-says").textContent = MODES[name] || "";
  document.querySelectorAll("[data-mode]").forEach((b) => b.setAttribute("aria-checked", String(b.dataset.mode === name)));
}
async function travelAs(name) {
  try { showMode((await (await post("/demo/notices", { mode: name })).json()).mode); } catch (error) { $("mode-says").textContent = "出错了：" + error; }
}
$("desk-some").addEventListener("click", refund(() => fen($("desk-fen").value)));
$("desk-rest").addEventListener("click", refund(() => desk.order && left(desk.order)));
$("desk-close").addEventListener("click", shut);
document.querySelectorAll("[data-mode]").forEach((b) => b.addEventListener("click", () => travelAs(b.dataset.mode)));

