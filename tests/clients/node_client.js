// Writes and reads mixed keys through ioredis's cluster client: node_client.js PORT COUNT. Exit status 0: all was there.
"use strict";
const assert = require("node:assert");
const { Cluster } = require("ioredis");

const [port, count] = process.argv.slice(2).map(Number);
const KINDS = [
  {
    write: (to, key, number) => to.set(key, `value ${number}`),
    read: (from, key) => from.get(key),
    expected: (number) => `value ${number}`,
  },
  {
    write: (to, key, number) => to.hset(key, "f", number, "g", "text"),
    read: (from, key) => from.hgetall(key),
    expected: (number) => ({ f: String(number), g: "text" }),
  },
  {
    write: (to, key, number) => to.rpush(key, "a", number),
    read: (from, key) => from.lrange(key, 0, -1),
    expected: (number) => ["a", String(number)],
  },
  {
    write: (to, key, number) => to.zadd(key, number, "m", -1.5, "n"),
    read: (from, key) => from.zrange(key, 0, -1, "WITHSCORES"),
    expected: (number) => ["n", "-1.5", "m", String(number)],
  },
  {
    write: (to, key, number) => to.set(key, Buffer.from([0, 13, 10, number & 255]), "PX", 1e9),
    read: (from, key) => from.getBuffer(key),
    expected: (number) => Buffer.from([0, 13, 10, number & 255]),
  },
];

async function main() {
  const cluster = new Cluster([{ host: "127.0.0.1", port }]);
  const numbers = Array.from({ length: count }, (_, number) => number);
  await Promise.all(
    numbers.map((number) => KINDS[number % KINDS.length].write(cluster, `node:${number}`, number)),
  );
  for (const number of numbers) {
    const kind = KINDS[number % KINDS.length];
    assert.deepStrictEqual(await kind.read(cluster, `node:${number}`), kind.expected(number), `node:${number}`);
  }

  // A pipeline and a transaction in one slot, several keys in one command.
  const pipeline = cluster.pipeline();
  for (let number = 0; number < 300; number += 1) pipeline.set(`{node}:${number}`, number);
  for (const [error, reply] of await pipeline.exec()) assert.ok(error === null && reply === "OK");
  assert.deepStrictEqual(await cluster.mget("{node}:7", "{node}:299"), ["7", "299"]);
  const replies = await cluster.multi().incr("{node}:7").hset("{node}:h", "f", "v").get("{node}:7").exec();
  assert.deepStrictEqual(replies, [[null, 8], [null, 1], [null, "8"]]);
  await assert.rejects(cluster.mget("node:1", "node:2"), /CROSSSLOT|same slot|hash slot/i);

  // Reads that go to replicas. What was written a moment ago need not be there yet.
  const reader = new Cluster([{ host: "127.0.0.1", port }], { scaleReads: "slave" });
  for (let number = 0; number < 300; number += 1) await reader.get(`{node}:${number}`);

  assert.strictEqual(cluster.nodes("master").length, 3);
  assert.strictEqual(reader.nodes("slave").length, 3);
  console.log(`ioredis: ${count} mixed keys, a pipeline, a transaction, reads from replicas`);
  reader.disconnect();
  cluster.disconnect();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
