"""Writes and reads mixed keys through redis-py's cluster client: python_client.py PORT COUNT. Exit status 0: all was there."""

import sys

from redis.cluster import ClusterNode, RedisCluster


def main():
    port, count = int(sys.argv[1]), int(sys.argv[2])
    client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port)], decode_responses=True)

    # One command after the other: strings, hashes, lists, sets, sorted sets.
    for number in range(count):
        key = f"py:{number}"
        kind = number % 5
        if kind == 0:
            client.set(key, f"value {number}")
        elif kind == 1:
            client.hset(key, mapping={"f": number, "g": "text"})
        elif kind == 2:
            client.rpush(key, "a", number)
        elif kind == 3:
            client.sadd(key, "a", number)
        else:
            client.zadd(key, {"m": number, "n": -1.5})
    for number in range(count):
        key = f"py:{number}"
        kind = number % 5
        if kind == 0:
            assert client.get(key) == f"value {number}", key
        elif kind == 1:
            assert client.hgetall(key) == {"f": str(number), "g": "text"}, key
        elif kind == 2:
            assert client.lrange(key, 0, -1) == ["a", str(number)], key
        elif kind == 3:
            assert client.smembers(key) == {"a", str(number)}, key
        else:
            assert client.zrange(key, 0, -1, withscores=True) == [("n", -1.5), ("m", float(number))], key

    # Pipelines over all nodes.
    with client.pipeline() as pipe:
        for number in range(500):
            pipe.set(f"py:pipe:{number}", number)
        assert all(pipe.execute())
    with client.pipeline() as pipe:
        for number in range(500):
            pipe.get(f"py:pipe:{number}")
        assert pipe.execute() == [str(number) for number in range(500)]

    # Hash tags, and several keys of one slot in one command.
    client.mset({"{py}:a": 1, "{py}:b": 2})
    assert client.mget("{py}:a", "{py}:b") == ["1", "2"]

    # MULTI and EXEC on the node of one slot.
    node = client.get_node_from_key("{py}:a")
    with client.get_redis_connection(node).pipeline(transaction=True) as transaction:
        transaction.incr("{py}:a")
        transaction.hset("{py}:h", "f", "v")
        transaction.get("{py}:a")
        assert transaction.execute() == [2, 1, "2"]

    # What spans nodes.
    assert client.ping(target_nodes=RedisCluster.ALL_NODES)
    sizes = [client.dbsize(target_nodes=node) for node in client.get_primaries()]
    assert len(sizes) == 3 and sum(sizes) >= count + 500, sizes
    assert len(list(client.scan_iter("py:pipe:*", count=200))) == 500

    # Reads from replicas.
    reader = RedisCluster(
        startup_nodes=[ClusterNode("127.0.0.1", port)], read_from_replicas=True, decode_responses=True
    )
    for number in range(0, 500, 7):
        reader.get(f"py:pipe:{number}")
    print(f"python: {count} mixed keys, pipelines, a transaction and a scan over {len(client.get_nodes())} nodes")


main()
