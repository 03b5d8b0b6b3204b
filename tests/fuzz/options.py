"""The formats with the options under which they are fuzzed, and a first input of each."""

from __future__ import annotations

from typing import Final

from blocklistd.sources.formats.records import FormatOptions
from tests.fuzz.queries import REQUESTS
from tests.openpgp import PUBLIC_KEY

OPTIONS: Final[dict[str, tuple[str, FormatOptions]]] = {
    "text-url": ("text", FormatOptions(defaults={"type": "url"})),
    "text-domain": ("text", FormatOptions(defaults={"type": "domain"}, wildcards=True)),
    "text-ip": ("text", FormatOptions(defaults={"type": "ip"})),
    "text-md5": ("text", FormatOptions(defaults={"type": "md5"})),
    "hosts": ("hosts", FormatOptions(defaults={"type": "host"})),
    "csv": ("csv", FormatOptions({"value": "v", "type": "t", "verifiers": "n"}, {"type": "domain"})),
    "ndjson": (
        "ndjson",
        FormatOptions({"value": "/v", "type": "/t", "category": "/c", "verifiers": "/n/0"}, {"type": "domain"}),
    ),
    "json": (
        "json",
        FormatOptions(
            {"value": "/v", "category": "/c", "expires": "/e"}, {"type": "domain"}, records="/r", where={"/d": None}
        ),
    ),
    "xml": (
        "xml",
        FormatOptions(
            {"value": "v", "ref": "@i", "category": "c/d"}, {"type": "domain"}, records="r/e", where={"d": None}
        ),
    ),
    "action-log": ("action-log", FormatOptions({"value": "/v", "action": "/a", "ref": "/i"}, {"type": "domain"})),
    "entries": ("entries", FormatOptions()),
    "rpz": ("rpz", FormatOptions(defaults={"category": "A"})),
    "xml-pages": ("xml-pages", FormatOptions({"value": "f/*", "ref": "i"}, where={"d": None})),
}
"""By the name of the target: the format, and its options. Each format has at least one."""

SEEDS: Final[dict[str, tuple[bytes, ...]]] = {
    "text-url": (b"https://a.example/x?y=1\nhttp://b.example:81/%7e\n# c\n\n%%%\nhttps://a.example/x?y=1\n",),
    "text-domain": (b"a.example\n*.b.example\nxn--a-0ga.example\n%%%\nb.example\na.example\n",),
    "text-ip": (
        b"192.0.2.1\n192.0.2.0/24\n2001:DB8::/32\n::ffff:192.0.2.7\n10.0.0.0/8\n%%%\n192.0.2.1/24\n2001:db8::1\n",
    ),
    "text-md5": (b"d41d8cd98f00b204e9800998ecf8427e\nD41D8CD98F00B204E9800998ECF8427E\n\n%%%\nx\n",),
    "hosts": (b"0.0.0.0 a.example b.example # c\n::1 localhost\n\n%%%\n127.0.0.1 a.example\n",),
    "csv": (b'v,t,n\na.example,host,2\n"b.example","domain",\n\n%%%\nv,n,t\na.example,1,host\n',),
    "ndjson": (b'{"v":"a.example","t":"host","c":"A","n":[1]}\n{"v":"b.example"}\n\n%%%\n{"v":"a.example"}\n',),
    "json": (
        b'{"n":1,"r":[{"v":"a.example","c":"A","d":null},{"v":["b.example","c.example"],"e":"2026-11-28"},{"v":"d","d":1}]}',
    ),
    "xml": (
        b'<?xml version="1.0"?>\n<n:r xmlns:n="x"><n:e i="1"><n:v>a.example</n:v><n:c><n:d>A&amp;B</n:d></n:c></n:e>'
        b"<n:e><n:v><![CDATA[b.example]]></n:v><!-- c --><d/></n:e></n:r>",
    ),
    "action-log": (
        b'{"v":"a.example","a":"block","i":1}\n{"v":"b.example","a":"block","i":2}\n\n%%%\n'
        b'{"v":"a.example","a":"unblock","i":1}\n{"v":"a.example","a":"x"}\n',
    ),
    "entries": (
        b'{"type":"host","value":"a.example","id":"e-0123456789abcdef0123456789abcdef"}\n%%%\n'
        b'{"type":"host","value":"a.example","category":"A","test":true}\n{"type":"url","value":"x"}\n',
    ),
    "rpz": (
        b"$TTL 60\n$ORIGIN z.example.\n@ SOA a. b. 1 2 3 4 5\n@ NS a.\na.example CNAME .\n*.a.example 5 IN CNAME *.\n"
        b'b\\.c TXT "x" ; c\nd.example ( CNAME rpz-passthru. )\n32.1.2.0.192.rpz-ip CNAME .\n'
        b"128.1.zz.db8.2001.rpz-ip CNAME .\n24.0.2.0.192.rpz-ip CNAME .\n32.9.2.0.192.rpz-ip CNAME rpz-passthru.\n",
    ),
    "xml-pages": (b"<q><i><i>1</i><f><md5>d41d8cd98f00b204e9800998ecf8427e</md5></f></i><i><i>2</i><d/></i></q>\0",),
    "decode": (
        b"\x1f\x8b\x08\0\0\0\0\0\0\x03K\xe4\x02\0\x0e\xf7\xa9\xe2\x02\0\0\0",
        b"\x28\xb5\x2f\xfd\x04\x00\x11\0\0a\n",
    ),
    "canonical": (b'{"type":"url","value":"https://a.example/"}\n{"type":"url","value":"https://b.example/%C3%A4"}\n',),
    "dns-request": REQUESTS,
    "key-tuf": (b'{"signatures":[],"signed":{"_type":"root","expires":"2036-01-01T00:00:00Z","roles":{}}}',),
    "key-openpgp": (PUBLIC_KEY,),
    "key-minisign": (b"untrusted comment: x\nRWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3\n",),
}
"""A first input of each target. Bodies of successive pulls are separated by `targets.NEXT`."""
