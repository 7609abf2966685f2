"""Writes and reads through redis-py's cluster client for some seconds: python_through_handovers.py PORT SECONDS. Masters and
replicas change places meanwhile. Exit status 0: no call failed, and every value read was the one written."""

import sys
import time

from redis.cluster import ClusterNode, RedisCluster


def main():
    port, seconds = int(sys.argv[1]), float(sys.argv[2])
    client = RedisCluster(startup_nodes=[ClusterNode("127.0.0.1", port)], decode_responses=True)
    end = time.monotonic() + seconds
    number, longest = 0, 0.0
    while time.monotonic() < end:
        key = f"py:handover:{number % 500}"
        started = time.monotonic()
        assert client.set(key, number)
        assert client.get(key) == str(number), key
        longest = max(longest, time.monotonic() - started)
        number += 1
    print(f"python: {number} writes and reads, the slowest pair took {longest * 1000:.0f} ms")


main()
