// The unmodified SDK `alipay-sdk` against the simulated Alipay: code, prepay, query, close, refund, and what it must refuse.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { AlipaySdk } from 'alipay-sdk';

/** An SDK object configured with nothing but what the console hands out. */
function sdk(base, app) {
  const certificates = app.mode === 'certificate'
    ? {
        appCertContent: app.app_cert_pem,
        alipayPublicCertContent: app.alipay_cert_pem,
        alipayRootCertContent: app.alipay_root_cert_pem,
      }
    : { alipayPublicKey: app.alipay_public_key };
  return new AlipaySdk({
    appId: app.app_id,
    privateKey: app.app_private_key_pem,
    keyType: app.app_private_key_pem.includes('RSA PRIVATE') ? 'PKCS1' : 'PKCS8',
    gateway: `${base}/gateway.do`,
    timeout: 10_000,
    ...certificates,
  });
}

/** Runs one application through code, create, query, close and refund; every answer must verify. */
export async function alipay(base, { app, auth_code: authCode, user_id: userId }, step) {
  const client = sdk(base, app);
  const label = `alipay ${app.mode}/${app.id_mode}`;
  const checked = { validateSign: true };

  const token = await client.exec('alipay.system.oauth.token', { grantType: 'authorization_code', code: authCode }, checked);
  const buyer = token.openId ? { buyer_open_id: token.openId } : { buyer_id: token.userId };
  assert.ok(token.openId || token.userId === userId, 'the token names its user');
  step(`${label}: the code is exchanged`);

  const outTradeNo = `SDK${randomUUID().replaceAll('-', '')}`;
  const bizContent = {
    out_trade_no: outTradeNo,
    total_amount: '88.88',
    subject: '测试商品 A+B 100%',
    product_code: 'JSAPI_PAY',
    op_app_id: app.app_id,
    timeout_express: '30m',
    ...buyer,
  };
  const created = await client.exec('alipay.trade.create', { bizContent }, checked);
  assert.equal(created.code, '10000', JSON.stringify(created));
  assert.match(created.tradeNo, /^\d{28}$/);
  step(`${label}: the trade is created`);

  const query = () => client.exec('alipay.trade.query', { bizContent: { out_trade_no: outTradeNo } }, checked);
  const waiting = await query();
  assert.equal(waiting.tradeStatus, 'WAIT_BUYER_PAY', JSON.stringify(waiting));
  assert.equal(waiting.totalAmount, '88.88');
  step(`${label}: it waits for its buyer`);

  const close = () => client.exec('alipay.trade.close', { bizContent: { out_trade_no: outTradeNo } }, checked);
  assert.equal((await close()).code, '10000');
  assert.equal((await query()).tradeStatus, 'TRADE_CLOSED');
  assert.equal((await close()).subCode, 'ACQ.TRADE_STATUS_ERROR');
  step(`${label}: it is closed, once`);

  const notice = await notified(client, base, { ...bizContent, out_trade_no: `${outTradeNo}N` }, userId);
  assert.ok(client.checkNotifySignV2(notice), JSON.stringify(notice));
  assert.equal(notice.trade_status, 'TRADE_SUCCESS');
  step(`${label}: the notice of a payment verifies`);

  const refund = (amount) => client.exec('alipay.trade.refund', {
    bizContent: { out_trade_no: notice.out_trade_no, out_request_no: 'R1', refund_amount: amount },
  }, checked);
  const refunded = await refund('8.88');
  assert.equal(`${refunded.fundChange} ${refunded.refundFee}`, 'Y 8.88', JSON.stringify(refunded));
  assert.equal((await refund('8.88')).fundChange, 'N');
  assert.equal((await refund('8.89')).subCode, 'ACQ.DISCORDANT_REPEAT_REQUEST');
  step(`${label}: it is refunded, once`);

  const unknown = await client.exec('alipay.trade.query', { bizContent: { out_trade_no: 'NOBODY' } }, checked);
  assert.equal(unknown.subCode, 'ACQ.TRADE_NOT_EXIST');
  step(`${label}: an unknown number is refused`);
}

/** Creates a trade with an address of ours, lets its buyer pay it, and answers the parameters of the notice. */
async function notified(client, base, bizContent, userId) {
  const server = createServer();
  await new Promise((listening) => server.listen(0, '127.0.0.1', listening));
  const arrived = new Promise((resolve) => {
    server.on('request', (request, response) => {
      let body = '';
      request.setEncoding('utf8').on('data', (chunk) => { body += chunk; }).on('end', () => {
        response.end('success');
        resolve(Object.fromEntries(new URLSearchParams(body)));
      });
    });
  });
  try {
    const notifyUrl = `http://127.0.0.1:${server.address().port}/notify`;
    const created = await client.exec('alipay.trade.create', { notifyUrl, bizContent }, { validateSign: true });
    const paid = await fetch(`${base}/_sim/alipay/trade_pay`, {
      method: 'POST',
      body: JSON.stringify({ trade_no: created.tradeNo, user_id: userId, press: 'pay' }),
    });
    assert.equal((await paid.json()).result_code, '9000');
    const late = new Promise((_, reject) => { setTimeout(reject, 10_000, new Error('no notice came')).unref(); });
    return await Promise.race([arrived, late]);
  } finally {
    server.close();
    server.closeAllConnections();
  }
}
