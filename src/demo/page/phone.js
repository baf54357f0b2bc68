/* ---- the phone ---- */
function view(name) {
  document.querySelectorAll("[data-view]").forEach((v) => { v.hidden = v.dataset.view !== name; });
  $("title").textContent = name === "wallets" ? "示例咖啡馆" : name === "order" ? "确认订单" : "支付结果";
  $("back").style.visibility = name === "wallets" ? "hidden" : "visible";
  draw();
}
function draw() {
  document.body.className = trip.wallet;
  const show = {
    good: trip.info ? trip.info.goodName : "", yuan: trip.info ? (trip.info.orderAmount / 100).toFixed(2) : "",
    number: trip.order ? "…" + trip.order.orderNo.slice(-10) : "", person: PEOPLE[trip.person - 1],
    status: trip.info ? STATUS[trip.info.payStatus] || trip.info.payStatus : "",
  };
  document.querySelectorAll("[data-show]").forEach((e) => { e.textContent = show[e.dataset.show]; });
  $("pay").textContent = trip.params[trip.person] ? "再次支付" : "支付";
  document.querySelectorAll(".main, .wallet").forEach((b) => { b.disabled = busy; });
  $("another").disabled = busy || !trip.order || trip.paid || trip.person >= PEOPLE.length;
  $("stale").disabled = busy || trip.paid || !trip.before;
  $("stale").textContent = trip.before ? "让" + PEOPLE[trip.before - 1] + "用旧参数付款" : "让上一个人用旧参数付款";
  $("reset").disabled = busy || !trip.order;
  drawDesk();
}
let toastTurn = 0;
async function toast(text, ms = 1700) {
  const mine = ++toastTurn, box = $("toast");
  box.textContent = "";
  if (!ms) box.append(el("span", "spin"));
  box.append(text); box.hidden = !text;
  if (ms) { await later(ms); if (mine === toastTurn) box.hidden = true; }
}
/* One thing at a time, as on a phone that waits. */
const alone = (work) => async (...args) => {
  if (busy) return;
  busy = true; draw();
  try { await work(...args); } catch (error) { toast("出错了：" + error); } finally { busy = false; draw(); }
};
const choose = alone(async (wallet) => {
  trip = nobody(); trip.wallet = wallet; turn += 1; $("travel").textContent = ""; draw();
  toast("商户正在创建订单…", 0);
  const order = await call("The merchant makes an order", "merchant → front, signed · then the link opens the mini-program", "GET", "/demo/order?wallet=" + wallet);
  if (!order.payInfo) return void toast(order.error || order.msg || "下单失败");
  trip.order = order; trip.codes[1] = order.code;
  await open();
});
/* A person opens the link: what is being paid is shown before anything else. */
async function open() {
  const at = new URL(trip.order.interfaceUrl).pathname;
  const info = await call(PEOPLE[trip.person - 1] + " opens the link", "phone → front", "POST", at + "/info", { payInfo: trip.order.payInfo });
  if (!info.data) return void toast(info.msg);
  trip.info = info.data; $("toast").hidden = true; view("order");
}
const pay = alone(async () => {
  const w = WALLETS[trip.wallet], who = trip.person, at = new URL(trip.order.interfaceUrl).pathname;
  toast("正在下单…", 0);
  let code = trip.codes[who]; delete trip.codes[who];
  if (!code) {
    const login = await call(w.login + " on " + PEOPLE[who - 1] + "'s phone", "phone ↔ wallet", "POST", "/demo/login", { wallet: trip.wallet, person: who });
    code = login.code;
  }
  const answer = await call(trip.pays++ ? "The same payInfo again" : "The call that everything exists for", "phone → front → queue → worker → wallet", "POST", at, { payInfo: trip.order.payInfo, code });
  await ledger();
  if (answer.code !== "200") {
    if (answer.errCode === "2101") { trip.paid = true; if (trip.info) trip.info.payStatus = "SUCCESS"; view("paid"); }
    return void toast(answer.msg || "系统繁忙，请稍后重试", 2600);
  }
  trip.params[who] = answer.data; trip.info.payStatus = "PROCESSING";
  $("toast").hidden = true;
  cashier(who);
});
let atCashier = 0;
function cashier(who) {
  atCashier = who;
  const mark = $("cashier-mark");
  mark.className = "mark " + trip.wallet; mark.textContent = WALLETS[trip.wallet].mark;
  $("cashier-name").textContent = WALLETS[trip.wallet].name; $("cashier-who").textContent = PEOPLE[who - 1] + "的手机";
  for (const id of ["cashier-checks", "cashier-verdict", "close"]) $(id).hidden = true;
  for (const id of ["cashier-note", "cashier-keys", "cashier"]) $(id).hidden = false;
}
const pressed = alone(async (press) => {
  const w = WALLETS[trip.wallet], who = atCashier, body = { wallet: trip.wallet, params: trip.params[who], person: who, press };
  const shown = card({ what: "The simulated cashier", route: w.pay + " on " + PEOPLE[who - 1] + "'s phone", call: press === "pay" ? "确认支付" : "取消" });
  shown.half(trip.wallet === "wechat" ? "signed parameters, as the answer had them" : "the number, as the answer had it", json(body.params));
  const answer = await (await fetch("/demo/cashier", { method: "POST", headers: { "Content-Type": "application/json; charset=utf-8" }, body: JSON.stringify(body) })).json();
  const list = el("ul", "checks"), told = answer.errMsg || (answer.resultCode ? "resultCode " + answer.resultCode : answer.error);
  listChecks(list, answer.checks || []); shown.half("what the wallet checked", list);
  const failed = (answer.checks || []).some((c) => c.passed === false), paid = press === "pay" && !failed && (answer.errMsg === "requestPayment:ok" || answer.resultCode === "9000");
  shown.say(told, paid ? "" : failed ? "bad" : "wait");
  if (press === "cancel" && !failed) { $("cashier").hidden = true; view("order"); return void toast("已取消支付"); }
  $("cashier-note").hidden = true; $("cashier-keys").hidden = true;
  listChecks($("cashier-checks"), answer.checks || []); $("cashier-checks").hidden = false;
  $("cashier-verdict").textContent = told; $("cashier-verdict").className = "verdict " + (paid ? "" : "bad"); $("cashier-verdict").hidden = false;
  if (!paid) { $("close").hidden = false; return; }
  await later(1300);
  $("cashier").hidden = true;
  await settled();
});
/* The client's own callback proves nothing: the page asks until the order says so. */
async function settled() {
  toast("确认支付结果…", 0);
  const at = new URL(trip.order.interfaceUrl).pathname + "/result", body = { payInfo: trip.order.payInfo };
  const shown = card({ what: "The page asks how it stands", route: "phone → front", call: "POST " + at });
  shown.half("request body", json(body));
  let answer, tries = 0;
  for (; tries < 30; tries += 1) {
    answer = await (await fetch(at, { method: "POST", headers: { "Content-Type": "application/json; charset=utf-8" }, body: JSON.stringify(body) })).json();
    if (answer.data && answer.data.payStatus === "SUCCESS") break;
    shown.say("asked " + (tries + 1) + "×", "wait");
    await later(500);
  }
  shown.half("answer", json(answer)); shown.say("asked " + (tries + 1) + "×");
  if (!answer.data || answer.data.payStatus !== "SUCCESS") return void toast("支付结果确认中，请稍后查看");
  trip.paid = true; trip.info.payStatus = "SUCCESS"; $("toast").hidden = true; view("paid");
  let seen = await ledger();
  // A notification that cannot come is not waited for.
  const looks = mode === "lost" || mode === "forged" ? 2 : mode === "late" ? 24 : 20;
  for (let look = 0; look < looks && !seen.accepted; look += 1) { await later(400); seen = await ledger(); }
  if (seen.order) {
    const merchant = card({ what: "The merchant looks at its order", route: "merchant → front, signed", call: "GET /api/v1/orders/" + trip.order.orderNo.slice(0, 9) + "…" });
    merchant.half("answer", json(seen.order)); merchant.say(seen.order.payStatus);
  }
}
const another = alone(async () => {
  if (trip.params[trip.person]) trip.before = trip.person;
  trip.person += 1; toast(PEOPLE[trip.person - 1] + "打开了同一个链接", 1400);
  await open();
});
const home = () => { if (busy) return; trip = nobody(); turn += 1; $("cashier").hidden = true; $("travel").textContent = ""; $("empty").hidden = false; view("wallets"); };

document.querySelectorAll("[data-wallet]").forEach((b) => b.addEventListener("click", () => choose(b.dataset.wallet)));
$("pay").addEventListener("click", pay); $("again").addEventListener("click", pay);
$("confirm").addEventListener("click", () => pressed("pay")); $("cancel").addEventListener("click", () => pressed("cancel"));
$("close").addEventListener("click", () => { $("cashier").hidden = true; view(trip.paid ? "paid" : "order"); });
$("another").addEventListener("click", () => { $("cashier").hidden = true; another(); });
$("stale").addEventListener("click", () => { if (!busy) cashier(trip.before); });
$("fresh").addEventListener("click", () => choose(trip.wallet));
for (const id of ["leave", "reset", "back"]) $(id).addEventListener("click", home);
const clock = () => { const now = new Date(); $("time").textContent = now.getHours() + ":" + String(now.getMinutes()).padStart(2, "0"); };
clock(); setInterval(clock, 10000); view("wallets"); watch();
