"""Certificates for loopback, made by the test that uses them."""

from __future__ import annotations

import ipaddress
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from blocklistd.config import Secret
from blocklistd.tls import load_certificate, server_context


def context_of(cert: Path, key: Path) -> ssl.SSLContext:
    """A server context as the feed makes it."""
    context = server_context()
    load_certificate(context, cert, Secret("file", str(key)))
    return context


def make_certificate(
    folder: Path,
    name: str,
    good_for: timedelta = timedelta(days=30),
    *,
    begins: timedelta = timedelta(days=-2),
    named: bool = True,
    signed_by: str | None = None,
    key_of: str | None = None,
) -> tuple[Path, Path]:
    """A certificate for NAME.example and 127.0.0.1, and its key: NAME.pem and NAME.key. Times are from now on. Without
    `named` it is for the address alone. `signed_by`: the name of the certificate that signs it, by default itself.
    `key_of`: the name of one that has the key; by default it is a new one."""
    key: Any = ec.generate_private_key(ec.SECP256R1())
    if key_of is not None:
        key = serialization.load_pem_private_key((folder / f"{key_of}.key").read_bytes(), None)
    issuer, signing = None, key
    if signed_by is not None:
        issuer = x509.load_pem_x509_certificate((folder / f"{signed_by}.pem").read_bytes()).subject
        signing = serialization.load_pem_private_key((folder / f"{signed_by}.key").read_bytes(), None)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"{name}.example")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + good_for)
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName(f"{name}.example")] * named + [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            ),
            critical=False,
        )
        .add_extension(
            x509.BasicConstraints(ca=signed_by is None, path_length=0 if signed_by is None else None), critical=True
        )
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=signed_by is None,
                crl_sign=signed_by is None,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .sign(signing, hashes.SHA256())
    )
    certificate_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    key_path.chmod(0o600)
    return certificate_path, key_path


def spki(path: Path) -> str:
    """The SHA-256 (hex) of the public key of a certificate, as an administrator computes it with `openssl`."""
    command = (
        'openssl x509 -in "$0" -noout -pubkey | openssl pkey -pubin -outform der | openssl dgst -sha256 -r | cut -c1-64'
    )
    done = subprocess.run(["sh", "-c", command, str(path)], capture_output=True, text=True, check=True)
    return done.stdout.strip()
