"""A vault that refuses every digest, each answer of which takes 600 ms. Prints its port."""

import time
from concurrent import futures

import grpc
from credvault.v1 import use_service_pb2 as wire
from credvault.v1 import use_service_pb2_grpc as services

CHALLENGE = 'Digest realm="sip.test", nonce="AUAAAA", algorithm=MD5, qop="auth"'


class Vault(services.UseServiceServicer):
    refused = False

    def VerifySipDigest(self, request, context):
        time.sleep(0.6)
        self.refused = True
        return wire.VerifySipDigestResponse(valid=False)

    def IssueSipChallenge(self, request, context):
        # Not the first one: who waits for Kamailio does not wait so long.
        if self.refused:
            time.sleep(0.6)
        return wire.IssueSipChallengeResponse(challenge=CHALLENGE)


server = grpc.server(futures.ThreadPoolExecutor(4))
services.add_UseServiceServicer_to_server(Vault(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
