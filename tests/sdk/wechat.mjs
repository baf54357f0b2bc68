// The unmodified SDK `wechatpay-axios-plugin` against the simulated WeChat Pay: prepay, query, refund, close.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';

const { Wechatpay, Formatter, Rsa } = createRequire(import.meta.url)('wechatpay-axios-plugin');

/** Runs one merchant through prepay, query, refund and close; the SDK verifies every answer itself. */
export async function wechat(base, { merchant, appid, openid }, step) {
  const client = new Wechatpay({
    baseURL: `${base}/`,
    mchid: merchant.mchid,
    serial: merchant.serial_no,
    privateKey: merchant.private_key_pem,
    certs: {
      [merchant.public_key_id]: merchant.public_key_pem,
      [merchant.platform_serial_no]: merchant.platform_certificate_pem,
    },
    headers: { 'Wechatpay-Serial': merchant.public_key_id },
    proxy: false,
    timeout: 10_000,
  });
  const outTradeNo = randomUUID().replaceAll('-', '');

  const { data: prepay } = await client.v3.pay.transactions.jsapi.post({
    mchid: merchant.mchid,
    appid,
    out_trade_no: outTradeNo,
    description: '测试商品',
    notify_url: 'https://merchant.example/notify',
    amount: { total: 8888, currency: 'CNY' },
    payer: { openid },
  });
  assert.ok(prepay.prepay_id, JSON.stringify(prepay));
  const fields = [appid, Formatter.timestamp().toString(), Formatter.nonce(), `prepay_id=${prepay.prepay_id}`];
  assert.ok(Rsa.sign(Formatter.joinedByLineFeed(...fields), merchant.private_key_pem));
  step('wechat: the order is created');

  const number = client.v3.pay.transactions.outTradeNo.$out_trade_no$;
  const about = { out_trade_no: outTradeNo };
  const { data: waiting } = await number.get({ params: { mchid: merchant.mchid }, ...about });
  assert.equal(waiting.trade_state, 'NOTPAY', JSON.stringify(waiting));
  assert.equal(waiting.out_trade_no, outTradeNo);
  step('wechat: it waits for its payer');

  const paid = `${outTradeNo.slice(0, 30)}P1`;
  await client.v3.pay.transactions.jsapi.post({
    mchid: merchant.mchid,
    appid,
    out_trade_no: paid,
    description: '测试商品',
    notify_url: 'https://merchant.example/notify',
    amount: { total: 8888, currency: 'CNY' },
    payer: { openid },
  });
  const body = JSON.stringify({ mchid: merchant.mchid, out_trade_no: paid });
  assert.ok((await fetch(`${base}/_sim/wechat/pay`, { method: 'POST', body })).ok);
  const wanted = { out_trade_no: paid, out_refund_no: `${paid}R`, amount: { refund: 888, total: 8888, currency: 'CNY' } };
  const { data: accepted } = await client.v3.refund.domestic.refunds.post(wanted);
  assert.equal(accepted.status, 'PROCESSING', JSON.stringify(accepted));
  const { data: again } = await client.v3.refund.domestic.refunds.post(wanted);
  assert.equal(again.refund_id, accepted.refund_id);
  const { data: known } = await client.v3.refund.domestic.refunds.$out_refund_no$.get({ out_refund_no: wanted.out_refund_no });
  assert.equal(known.amount.refund, 888, JSON.stringify(known));
  step('wechat: another is refunded, once');

  const closed = await number.close.post({ mchid: merchant.mchid }, about);
  assert.equal(closed.status, 204);
  const { data: after } = await number.get({ params: { mchid: merchant.mchid }, ...about });
  assert.equal(after.trade_state, 'CLOSED', JSON.stringify(after));
  step('wechat: it is closed');
}
