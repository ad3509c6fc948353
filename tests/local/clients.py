#!/usr/bin/env python3
"""WebSocket clients by an independent library: subscribe, count, and check what arrives.

usage: clients.py CHANNEL COUNT ADDRESS...

Opens one client at every ADDRESS (host:port), prints "subscribed" when all are, and waits for COUNT messages on each.
All must get the same messages; within a partition, each must name the one before it. Prints one line a client.
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect

WITHIN = 60  # seconds, for everything


async def receive(channel, count, address, subscribed):
    async with connect(f"ws://{address}/ws", compression=None) as socket:
        await socket.send(json.dumps({"type": "subscribe", "data": {"channels": [channel]}}))
        ack = json.loads(await socket.recv())
        assert ack["type"] == "subscription_ack" and ack["subscribed"] == [channel], ack
        await subscribed.wait()
        messages, last = [], {}
        while len(messages) < count:
            message = json.loads(await socket.recv())
            partition = message["pos"].rsplit("-", 1)[0]
            if partition in last:
                assert message["prev"] == last[partition], f"a hole before {message}"
            last[partition] = message["pos"]
            messages.append(message)
        return messages


async def main():
    channel, count, addresses = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    subscribed = asyncio.Barrier(len(addresses) + 1)
    async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as group:
        tasks = [group.create_task(receive(channel, count, address, subscribed)) for address in addresses]
        await subscribed.wait()
        print("subscribed", flush=True)
    received = [task.result() for task in tasks]
    for address, messages in zip(addresses, received):
        assert messages == received[0], f"{address} got other messages"
        print(f"{address}: {len(messages)} messages, from {messages[0]['pos']} to {messages[-1]['pos']}")


asyncio.run(main())
