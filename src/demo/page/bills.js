
/* ---- the wallets' bills of today ---- */
const DIFFERS = {
  missing_there: ["账单缺少", "我方已记账，钱包的账单里没有"],
  missing_here: ["我方缺少", "账单里有，我方还没有记为已付"],
  amount_differs: ["金额不符", "双方都有这一笔，金额不同"],
  status_differs: ["状态不符", "双方都有这一笔，结果不同"],
  unknown_number: ["来历不明", "账单里有，我方没有这个号"],
};
const UNHAD = {
  no_bill: "今天没有账目，钱包就没有账单：先付一笔",
  held: "另一次对账还没有结束，请稍后再试",
  failed: "没有取到能用的账单，请稍后再试",
};
let matching = false, leftOut = null;

function drawBills(answer) {
  $("bills-date").textContent = answer.date;
  fill($("bills"), answer.wallets.map((w) => {
    const { name } = WALLETS[w.wallet];
    if (w.trouble) return [name, "", "取不到账单", "wait", UNHAD[w.trouble]];
    const paid = "付款 " + w.payments + " 笔 " + yuan(w.payFen) + "，退款 " + w.refunds + " 笔 " + yuan(w.refundFen);
    return [name, paid, w.discrepancies ? w.discrepancies + " 笔不符" : "一致", w.discrepancies ? "bad" : "good", w.ofOthers ? "另有收银台 " + w.ofOthers + " 笔，不归我方" : ""];
  }), "没有钱包");
  const found = answer.wallets.flatMap((w) => w.found);
  $("bills-differ").hidden = !found.length;
  fill($("bills-found"), found.map((f) => {
    const [kind, what] = DIFFERS[f.kind] || [f.kind, ""];
    return f.open ? [kind, tail(f.number), "未了结", "bad", what] : [kind, tail(f.number), "已了结", "good", "钱包确认了这一笔，或再对账时已一致"];
  }), "没有");
}
function drawBillKeys() {
  for (const id of ["bills-look", "bills-leave", "bills-true"]) $(id).disabled = matching;
  $("bills-true").disabled = matching || !leftOut;
}
function sayOfBills(text) { $("bills-says").textContent = text; }
/* One at a time: a bill that is being matched does not change. */
const atBills = (work) => async () => {
  if (matching) return;
  matching = true; drawBillKeys();
  try { await work(); } catch (error) { sayOfBills("出错了：" + error); } finally { matching = false; drawBillKeys(); }
};
const lookAtBills = atBills(async () => {
  sayOfBills("正在取两个钱包今天的账单，逐笔核对…");
  const answer = await call("对账", "prepay ↔ 两个钱包：取账单，逐笔核对", "POST", "/demo/bills/look");
  if (!answer.wallets) return sayOfBills("没有对成：" + (answer.error || answer.msg));
  drawBills(answer);
  sayOfBills(answer.wallets.some((w) => w.found.some((f) => f.open)) ? "不符的账，系统一分钟内会自己去问钱包；问不清的留给人。" : "");
});
const changeBills = (leaveOut) => atBills(async () => {
  leftOut = (await (await post("/demo/bills", { leaveOut })).json()).leftOut;
  if (!leaveOut) sayOfBills("账单恢复原样，再对一次账。");
  else if (!leftOut) sayOfBills("今天还没有人付款，没有可漏掉的。");
  else sayOfBills(WALLETS[leftOut.wallet].name + "的账单漏掉了 " + tail(leftOut.outTradeNo) + "，再对一次账。");
});
/* A page that is opened later can restore, too. */
async function lookAtLeftOut() {
  try { ({ leftOut } = await (await fetch("/demo/bills")).json()); } catch { /* the demo is away for a moment */ }
  drawBillKeys();
}
$("bills-look").addEventListener("click", lookAtBills);
$("bills-leave").addEventListener("click", changeBills(true));
$("bills-true").addEventListener("click", changeBills(false));
lookAtLeftOut();
