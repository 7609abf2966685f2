// Writes and reads through ioredis's cluster client for some seconds: node_through_handovers.js PORT SECONDS. Masters and replicas
// change places meanwhile. Exit status 0: no call failed, and every value read was the one written.
"use strict";
const assert = require("node:assert");
const { Cluster } = require("ioredis");

const [port, seconds] = process.argv.slice(2).map(Number);

async function main() {
  const cluster = new Cluster([{ host: "127.0.0.1", port }]);
  const end = Date.now() + seconds * 1000;
  let [number, longest] = [0, 0];
  while (Date.now() < end) {
    const key = `node:handover:${number % 500}`;
    const started = Date.now();
    assert.strictEqual(await cluster.set(key, number), "OK");
    assert.strictEqual(await cluster.get(key), String(number), key);
    longest = Math.max(longest, Date.now() - started);
    number += 1;
  }
  console.log(`ioredis: ${number} writes and reads, the slowest pair took ${longest} ms`);
  cluster.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
