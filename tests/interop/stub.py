"""An upstream name server with an answer for every name, for names that the policy of a resolver does not block."""

from __future__ import annotations

import socket
import threading

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset

ADDRESS = "192.0.2.80"


class Stub:
    """Answers every A query with ADDRESS, over UDP, on a port of its own; queries for a name in `addresses` (with its
    last dot) with the address there, if it is of the queried type."""

    def __init__(self) -> None:
        self.addresses: dict[str, str] = {}
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                wire, source = self._socket.recvfrom(4096)
                query = dns.message.from_wire(wire)
                answer = dns.message.make_response(query, recursion_available=True)
                answer.flags |= dns.flags.AA
                question = query.question[0]
                address = self.addresses.get(question.name.to_text().lower(), ADDRESS)  # a resolver may mix the case
                kind = "AAAA" if ":" in address else "A"
                if question.rdtype == dns.rdatatype.from_text(kind):
                    answer.answer.append(dns.rrset.from_text(question.name, 5, "IN", kind, address))
                self._socket.sendto(answer.to_wire(), source)
            except dns.exception.DNSException:
                continue
            except OSError:
                return

    def close(self) -> None:
        self._socket.close()
