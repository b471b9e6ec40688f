#!/usr/bin/env bash
# pip through the broker: the token is the password in the index's URL.
set -euo pipefail
index="${BROKER/:\/\//:\/\/agent:$TOKEN@}/exchange/pypi/simple/"
"$PYTHON" -m pip --disable-pip-version-check install -q --no-cache-dir --target installed --index-url "$index" answer
"$PYTHON" -c 'import sys; sys.path.insert(0, "installed"); import answer; print(answer.VALUE)'
