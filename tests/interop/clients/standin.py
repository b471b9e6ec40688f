"""Stand-ins for public APIs, one path segment each: they take the real key only, in the place where the real API takes it,
and answer in the real API's form. They name the key in a header of each answer: nobody behind a broker may see that.

    python standin.py SECRET FOLDER      prints its URL; FOLDER holds git repositories and packages
"""

import base64
import gzip
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

SECRET, FOLDER = sys.argv[1], sys.argv[2]
PAGES = 3


def npm_package(name, version):
    """A package as `npm pack` makes it, and the document that the registry keeps of it."""
    manifest = json.dumps({"name": name, "version": version, "main": "index.js"}).encode()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in (("package/package.json", manifest), ("package/index.js", b"module.exports = 42\n")):
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)


def wheel():
    """A wheel with one module."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("answer.py", "VALUE = 42\n")
        info = "answer-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: answer\nVersion: 1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: standin\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "answer.py,,\n")
    return made.getvalue()


TARBALL, WHEEL = npm_package("@acme/answer", "1.0.0"), wheel()


class Standin(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_):
        pass

    def handle_any(self):
        url = urlsplit(self.path)
        _, name, path = (url.path + "/").split("/", 2)
        self.rest, self.query = "/" + path[:-1], parse_qs(url.query, keep_blank_values=True)
        self.base = f"http://127.0.0.1:{self.server.server_port}/{name}"
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            self.body = b"".join(iter(self.read_chunk, b""))
        else:
            self.body = self.rfile.read(length)
        if self.headers.get("Content-Encoding") == "gzip":
            self.body = gzip.decompress(self.body)
        # A token of the broker has the form of a JWT. None may come here.
        seen = json.dumps([self.path, list(self.headers.items())]) + self.body.decode("latin-1")
        if "eyJ" in seen:
            return self.answer(500, {"error": "a token came through"})
        api = getattr(self, "api_" + name.replace("-", "_"), None)
        if api is None:
            return self.answer(404, {"error": f"no stand-in {name}"})
        api()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = handle_any

    def read_chunk(self):
        size = int(self.rfile.readline().split(b";")[0], 16)
        piece = self.rfile.read(size)
        self.rfile.readline()
        return piece

    def answer(self, status, body, content_type="application/json", headers=()):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Your-Key", SECRET)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def stream(self, events):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for event in events:
            data = event.encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def bearer_is_good(self, error):
        if self.headers.get("Authorization") == f"Bearer {SECRET}":
            return True
        self.answer(401, error)
        return False

    def basic_password(self):
        scheme, _, value = (self.headers.get("Authorization") or "").partition(" ")
        return base64.b64decode(value).decode().partition(":")[2] if scheme.lower() == "basic" else None

    # OpenAI: https://platform.openai.com/docs/api-reference
    def api_openai(self):
        if not self.bearer_is_good({"error": {"message": "Incorrect API key provided", "type": "invalid_request_error", "code": "invalid_api_key"}}):
            return
        if self.rest == "/v1/models":
            return self.answer(200, {"object": "list", "data": [{"id": "gpt-5", "object": "model", "created": 1, "owned_by": "openai"}]})
        asked = json.loads(self.body)
        if self.rest == "/v1/embeddings":
            return self.answer(200, {"object": "list", "model": asked["model"], "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}})
        if self.rest != "/v1/chat/completions":
            return self.answer(404, {"error": {"message": "no such path", "type": "invalid_request_error"}})
        head = {"id": "chatcmpl-1", "created": 1, "model": asked["model"]}
        if asked.get("stream"):
            deltas = [{"role": "assistant", "content": ""}, {"content": "Hello"}, {"content": " there."}]
            chunks = [{**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
            chunks.append({**head, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
            return self.stream([f"data: {json.dumps(chunk)}\n\n" for chunk in chunks] + ["data: [DONE]\n\n"])
        message = {"role": "assistant", "content": "Hello there.", "refusal": None}
        usage = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
        self.answer(200, {**head, "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}], "usage": usage})

    # Anthropic: https://docs.anthropic.com/en/api/messages
    def api_anthropic(self):
        if self.headers.get("X-Api-Key") != SECRET:
            return self.answer(401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}})
        if not self.headers.get("Anthropic-Version"):
            return self.answer(400, {"type": "error", "error": {"type": "invalid_request_error", "message": "anthropic-version: header is required"}})
        asked = json.loads(self.body)
        head = {"id": "msg_1", "type": "message", "role": "assistant", "model": asked["model"], "stop_sequence": None}
        usage = {"input_tokens": 1, "output_tokens": 2}
        if asked.get("stream"):
            events = [
                ("message_start", {"message": {**head, "content": [], "stop_reason": None, "usage": usage}}),
                ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
                ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Hello"}}),
                ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": " there."}}),
                ("content_block_stop", {"index": 0}),
                ("message_delta", {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 2}}),
                ("message_stop", {}),
            ]
            return self.stream([f"event: {kind}\ndata: {json.dumps({'type': kind, **data})}\n\n" for kind, data in events])
        self.answer(200, {**head, "content": [{"type": "text", "text": "Hello there."}], "stop_reason": "end_turn", "usage": usage})

    # Stripe: https://docs.stripe.com/api
    def api_stripe(self):
        if not self.bearer_is_good({"error": {"type": "invalid_request_error", "message": "Invalid API Key provided"}}):
            return
        customer = {"id": "cus_1", "object": "customer", "email": "ada@example.com", "livemode": False}
        if self.command == "POST":
            fields = parse_qs(self.body.decode())
            return self.answer(200, {**customer, "email": fields["email"][0]})
        after = self.query.get("starting_after", ["cus_0"])[0]
        number = int(after.removeprefix("cus_")) + 1
        self.answer(200, {"object": "list", "url": "/v1/customers", "has_more": number < PAGES, "data": [{**customer, "id": f"cus_{number}"}]})

    # GitHub: https://docs.github.com/en/rest
    def api_github(self):
        if self.headers.get("Authorization") not in (f"Bearer {SECRET}", f"token {SECRET}"):
            return self.answer(401, {"message": "Bad credentials", "documentation_url": "https://docs.github.com/rest"})
        repo = {"id": 1, "name": "answer", "full_name": "acme/answer", "private": True, "url": f"{self.base}/repos/acme/answer",
                "owner": {"login": "acme", "id": 2, "type": "Organization", "url": f"{self.base}/users/acme"}}
        if self.rest == "/repos/acme/answer":
            return self.answer(200, repo)
        if self.rest == "/repos/acme/answer/issues" and self.command == "POST":
            return self.answer(201, {"id": 9, "number": 9, "title": json.loads(self.body)["title"], "state": "open", "url": f"{self.base}/repos/acme/answer/issues/9"})
        if self.rest == "/repos/acme/answer/issues":
            page = int(self.query.get("page", ["1"])[0])
            links = []
            if page < PAGES:
                links.append(f'<{self.base}/repos/acme/answer/issues?page={page + 1}&per_page=1>; rel="next"')
                links.append(f'<{self.base}/repos/acme/answer/issues?page={PAGES}&per_page=1>; rel="last"')
            issue = {"id": page, "number": page, "title": f"issue {page}", "state": "open", "url": f"{self.base}/repos/acme/answer/issues/{page}"}
            return self.answer(200, [issue], headers=[("Link", ", ".join(links))] if links else [])
        self.answer(404, {"message": "Not Found"})

    # GitLab: https://docs.gitlab.com/api/rest
    def api_gitlab(self):
        if self.headers.get("PRIVATE-TOKEN") != SECRET:
            return self.answer(401, {"message": "401 Unauthorized"})
        # As GitLab does: a project is one segment, its slash encoded.
        if self.rest.lower() == "/api/v4/projects/acme%2fanswer":
            return self.answer(200, {"id": 7, "path_with_namespace": "acme/answer"})
        if self.rest == "/api/v4/projects/7/issues":
            page = int(self.query.get("page", ["1"])[0])
            headers = [("X-Page", str(page)), ("X-Per-Page", "1"), ("X-Next-Page", str(page + 1) if page < PAGES else ""), ("X-Total-Pages", str(PAGES)), ("X-Total", str(PAGES))]
            if page < PAGES:
                headers.append(("Link", f'<{self.base}/api/v4/projects/7/issues?page={page + 1}&per_page=1>; rel="next"'))
            return self.answer(200, [{"id": page, "iid": page, "project_id": 7, "title": f"issue {page}"}], headers=headers)
        self.answer(404, {"message": "404 Not Found"})

    # Slack: https://docs.slack.dev/apis/web-api
    def api_slack(self):
        if self.headers.get("Authorization") != f"Bearer {SECRET}":
            return self.answer(200, {"ok": False, "error": "invalid_auth"})
        if self.rest == "/api/chat.postMessage":
            is_json = self.headers.get("Content-Type", "").startswith("application/json")
            fields = json.loads(self.body) if is_json else {k: v[0] for k, v in parse_qs(self.body.decode()).items()}
            return self.answer(200, {"ok": True, "channel": fields["channel"], "ts": "1.0", "message": {"text": fields["text"]}})
        self.answer(200, {"ok": False, "error": "unknown_method"})

    # An npm registry: https://github.com/npm/registry/blob/main/docs/REGISTRY-API.md
    def api_npm(self):
        if not self.bearer_is_good({"error": "unauthorized"}):
            return
        if self.rest.lower() == "/@acme%2fanswer":
            integrity = "sha512-" + base64.b64encode(hashlib.sha512(TARBALL).digest()).decode()
            # A registry lies at the root of its host.
            tarball = f"{self.base.removesuffix('/npm')}/@acme/answer/-/answer-1.0.0.tgz"
            dist = {"tarball": tarball, "integrity": integrity, "shasum": hashlib.sha1(TARBALL).hexdigest()}
            version = {"name": "@acme/answer", "version": "1.0.0", "dist": dist}
            return self.answer(200, {"name": "@acme/answer", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}})
        if self.rest == "/@acme/answer/-/answer-1.0.0.tgz":
            return self.answer(200, TARBALL, "application/octet-stream")
        self.answer(404, {"error": "not found"})

    # A Python package index: https://packaging.python.org/en/latest/specifications/simple-repository-api/
    def api_pypi(self):
        if self.basic_password() != SECRET:
            return self.answer(401, b"", "text/plain", [("WWW-Authenticate", 'Basic realm="index"')])
        if self.rest == "/simple/answer/":
            name = "answer-1.0-py3-none-any.whl"
            page = f'<!DOCTYPE html><html><body><a href="../../packages/{name}#sha256={hashlib.sha256(WHEEL).hexdigest()}">{name}</a></body></html>'
            return self.answer(200, page.encode(), "text/html")
        if self.rest == "/packages/answer-1.0-py3-none-any.whl":
            return self.answer(200, WHEEL, "application/octet-stream")
        self.answer(404, b"", "text/plain")

    # git over HTTP, by git's own server program: https://git-scm.com/docs/http-protocol
    def api_git(self):
        if self.basic_password() != SECRET:
            return self.answer(401, b"", "text/plain", [("WWW-Authenticate", 'Basic realm="git"')])
        environment = {
            **os.environ, "GIT_PROJECT_ROOT": FOLDER, "GIT_HTTP_EXPORT_ALL": "1", "REMOTE_USER": "agent",
            "PATH_INFO": unquote(self.rest), "QUERY_STRING": urlsplit(self.path).query, "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""), "CONTENT_LENGTH": str(len(self.body)),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=self.body, env=environment, capture_output=True, check=True)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        kind = next((value for name, value in headers if name == "Content-Type"), "text/plain")
        self.answer(status, body, kind)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Standin)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
