#!/usr/bin/env python3
"""Writes the fixtures beside it anew: a JWKS, one genuine token per algorithm, one genuine revocation list; and in
`foreign/` the keys of somebody else, with a token of each way in which others may sign.

The private keys are made here, used, and forgotten: nothing in this folder is a secret, and nobody, the fuzzer
included, can make another token that verifies. Needs the Python package `cryptography`.
"""
import base64, json, pathlib
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

here = pathlib.Path(__file__).parent
b64 = lambda raw: base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
num = lambda n, size: b64(n.to_bytes(size, "big"))

ed, p256, rs = (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP256R1()),
                rsa.generate_private_key(public_exponent=65537, key_size=2048))

def sign(alg, text):
    if alg == "EdDSA":
        return ed.sign(text)
    if alg == "ES256":
        r, s = utils.decode_dss_signature(p256.sign(text, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")
    return rs.sign(text, padding.PKCS1v15(), hashes.SHA256())

def jwt(alg, typ, claims):
    dump = lambda value: json.dumps(value, separators=(",", ":")).encode()
    text = b64(dump({"typ": typ, "alg": alg, "kid": f"key-{alg.lower()}"})) + "." + b64(dump(claims))
    return text + "." + b64(sign(alg, text.encode()))

point, modulus = p256.public_key().public_numbers(), rs.public_key().public_numbers()
common = lambda alg: {"use": "sig", "alg": alg, "kid": f"key-{alg.lower()}"}
(here / "jwks.json").write_text(json.dumps({"keys": [
    {"kty": "OKP", "crv": "Ed25519", "x": b64(ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)), **common("EdDSA")},
    {"kty": "EC", "crv": "P-256", "x": num(point.x, 32), "y": num(point.y, 32), **common("ES256")},
    {"kty": "RSA", "n": num(modulus.n, 256), "e": "AQAB", **common("RS256")},
]}))
token = {"iss": "https://broker.example", "sub": "ag_one", "client_id": "ag_one", "aud": "https://broker.example/exchange",
         "iat": 1_000_000, "exp": 1_000_300, "jti": "tk_one", "scope": "crm:contacts.read crm:contacts.write", "sid": "se_one"}
for alg in ["EdDSA", "ES256", "RS256"]:
    (here / f"{alg.lower()}.jwt").write_text(jwt(alg, "at+jwt", token))
(here / "revocations.jwt").write_text(jwt("EdDSA", "hallpass-revocations+jwt", {
    "iss": "https://broker.example", "iat": 1_000_000, "version": 7, "max_age": 30,
    "revoked": [{"jti": "tk_two"}, {"sid": "se_two"}, {"client_id": "ag_two", "before": 1_000_000}, {"kid": "key-old"}]}))

p384 = ec.generate_private_key(ec.SECP384R1())

def fixed(key, text, digest, size):
    r, s = utils.decode_dss_signature(key.sign(text, ec.ECDSA(digest)))
    return r.to_bytes(size, "big") + s.to_bytes(size, "big")

pss = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=32)
ways = {
    "EdDSA": ("ed", ed.sign),
    "ES256": ("p256", lambda text: fixed(p256, text, hashes.SHA256(), 32)),
    "ES384": ("p384", lambda text: fixed(p384, text, hashes.SHA384(), 48)),
    "PS256": ("rsa", lambda text: rs.sign(text, pss, hashes.SHA256())),
    "RS256": ("rsa", lambda text: rs.sign(text, padding.PKCS1v15(), hashes.SHA256())),
    "RS512": ("rsa", lambda text: rs.sign(text, padding.PKCS1v15(), hashes.SHA512())),
}
foreign, wide = here / "foreign", p384.public_key().public_numbers()
foreign.mkdir(exist_ok=True)
# Without `alg`, as many issuers publish their keys (RFC 7517 4.4).
(foreign / "jwks.json").write_text(json.dumps({"keys": [
    {"kid": "ed", "kty": "OKP", "crv": "Ed25519", "x": b64(ed.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))},
    {"kid": "p256", "kty": "EC", "crv": "P-256", "x": num(point.x, 32), "y": num(point.y, 32)},
    {"kid": "p384", "kty": "EC", "crv": "P-384", "x": num(wide.x, 48), "y": num(wide.y, 48)},
    {"kid": "rsa", "kty": "RSA", "n": num(modulus.n, 256), "e": "AQAB"},
]}))
for alg, (kid, signed_by) in ways.items():
    dump = lambda value: b64(json.dumps(value, separators=(",", ":")).encode())
    text = dump({"typ": "JWT", "alg": alg, "kid": kid}) + "." + dump({"iss": "https://idp.example", "sub": "somebody"})
    (foreign / f"{alg.lower()}.jwt").write_text(text + "." + b64(signed_by(text.encode())))
