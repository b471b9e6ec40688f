#!/usr/bin/env bash
# git through the broker. A credential helper gives the token as the password; the user name does not matter.
set -euo pipefail
export GIT_TERMINAL_PROMPT=0
helper='!f() { test "$1" = get && printf "username=agent\npassword=%s\n" "$TOKEN"; }; f'
git -c credential.helper= -c credential.helper="$helper" clone -q "$BROKER/exchange/git/acme/answer.git" answer
cd answer
git config credential.helper "$helper"
git -c user.name=agent -c user.email=agent@example.com commit -q --allow-empty -m "written by an agent"
git push -q origin HEAD
git log -1 --format=%s "@{upstream}"
