// usage: node run.mjs <base URL of a running simulator> <credentials.json>
//
// credentials.json: { "alipay": [{ "app": …, "auth_code": …, "user_id": … }, …],
//                     "wechat": [{ "merchant": …, "appid": …, "openid": … }, …] }
// with the objects the simulator hands out. Exit code 0: every SDK did its round and verified every answer.

// alipay-sdk stamps its requests with the machine's local time, and the gateway reads them as GMT+8.
process.env.TZ = 'Asia/Shanghai';

import { readFile } from 'node:fs/promises';
import { alipay } from './alipay.mjs';
import { wechat } from './wechat.mjs';

const [base, file] = process.argv.slice(2);
if (!base || !file) {
  console.error('usage: node run.mjs <base URL> <credentials.json>');
  process.exit(2);
}

const credentials = JSON.parse(await readFile(file, 'utf8'));
const step = (text) => console.log(`ok   ${text}`);
let failed = 0;
for (const [wallet, run] of Object.entries({ alipay, wechat })) {
  for (const account of credentials[wallet] ?? []) {
    try {
      await run(base, account, step);
    } catch (error) {
      failed += 1;
      // An HTTP client's error holds the whole request, keys included: only its message is shown.
      console.log(`FAIL ${wallet}: ${error.message}`);
    }
  }
}
console.log(failed ? `${failed} failed` : 'all SDKs did their round');
process.exit(failed ? 1 : 0);
