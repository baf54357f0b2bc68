// What a merchant does with what it was told: the standard's own library, unmodified.
// Usage: node verify.mjs FILE, a JSON file of {secrets, heard: {id, timestamp, signature, body}}.
import { readFileSync } from "node:fs";
import { Webhook } from "standardwebhooks";

const { secrets, heard } = JSON.parse(readFileSync(process.argv[2], "utf8"));
const headers = {
  "webhook-id": heard.id,
  "webhook-timestamp": heard.timestamp,
  "webhook-signature": heard.signature,
};

const refused = (what, check) => {
  try {
    check();
  } catch {
    return;
  }
  throw new Error(`${what} was taken`);
};

for (const secret of secrets) {
  const webhook = new Webhook(secret);
  const event = webhook.verify(heard.body, headers);
  if (event.notifyId !== heard.id) throw new Error("webhook-id is not the notifyId");
  refused("another body", () => webhook.verify(heard.body.replace("PAY", "CLOSE"), headers));
  refused("another id", () => webhook.verify(heard.body, { ...headers, "webhook-id": "another" }));
  refused("another time", () =>
    webhook.verify(heard.body, { ...headers, "webhook-timestamp": String(Number(heard.timestamp) + 1) }));
}
refused("another secret", () => new Webhook("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").verify(heard.body, headers));
