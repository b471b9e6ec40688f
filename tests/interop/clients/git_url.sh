#!/usr/bin/env bash
# git with the token in the remote's URL: clone, push, fetch.
set -euo pipefail
export GIT_TERMINAL_PROMPT=0 GIT_CONFIG_NOSYSTEM=1
remote="${BROKER/:\/\//:\/\/agent:$TOKEN@}/exchange/git/acme/answer.git"
git clone -q "$remote" by-url
cd by-url
git -c user.name=agent -c user.email=agent@example.com commit -q --allow-empty -m "pushed by URL"
git push -q origin HEAD
git fetch -q origin
git log -1 --format=%s "@{upstream}"
