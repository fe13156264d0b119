"""Pings with the options of client.py: for each number on standard input, that many calls one after another.

Prints how many of them succeeded.
"""

import sys

import grpc

from client import OPTIONS, ping
from rex.registry.v1 import registry_pb2_grpc


def succeeds(stub, registry):
    try:
        ping(stub, registry)
    except grpc.RpcError as error:
        print(error, file=sys.stderr)
        return False
    return True


target, registry = sys.argv[1:]
with grpc.insecure_channel(target, options=OPTIONS) as channel:
    stub = registry_pb2_grpc.RegistryServiceStub(channel)
    for line in sys.stdin:
        print(sum(succeeds(stub, registry) for _ in range(int(line))), flush=True)
