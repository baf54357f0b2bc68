const $ = (id) => document.getElementById(id);
const el = (tag, cls, text) => { const e = document.createElement(tag); if (cls) e.className = cls; if (text !== undefined) e.textContent = text; return e; };
const later = (ms) => new Promise((go) => setTimeout(go, ms));
const PEOPLE = ["小林", "小陈", "小王", "小赵", "小周", "小吴", "小郑", "小孙", "小何"];
const WALLETS = {
  wechat: { name: "微信支付", mark: "微", login: "wx.login()", pay: "wx.requestPayment()" },
  alipay: { name: "支付宝", mark: "支", login: "my.getAuthCode()", pay: "my.tradePay()" },
};
const STATUS = { WAITPAY: "待支付", PROCESSING: "待支付（已下单）", SUCCESS: "已支付", CLOSE: "已关闭" };
const nobody = () => ({ wallet: "", order: null, info: null, person: 1, codes: {}, params: {}, before: 0, pays: 0, seen: -1, paid: false });
let trip = nobody(), turn = 0, busy = false;
