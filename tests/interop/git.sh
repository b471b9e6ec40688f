# git: a token in the URL, from a credential helper, in a header; clone and push.
set -euo pipefail
export HOME=$PWD GIT_TERMINAL_PROMPT=0 GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
url=$BROKER/exchange/code/repo.git
with() { printf '%s' "${url/:\/\//:\/\/$1@}"; }
holds() { grep -qx "$2" "$1/file" || { echo "$1 is not what was cloned" >&2; exit 1; }; }

git clone -q "$(with "agent:$TOKEN")" password
holds password first
git clone -q "$(with "$TOKEN:x-oauth-basic")" user
holds user first

cat > helper <<'END'
#!/bin/sh
echo "$1" >> asked
[ "$1" != get ] || printf 'username=x-access-token\npassword=%s\n' "$GIVEN"
END
chmod +x helper
GIVEN=$TOKEN git -c "credential.helper=$PWD/helper" clone -q "$url" helped
holds helped first
[ "$(tr '\n' ' ' < asked)" = "get store " ]
# A token that is not good any more: git tells the helper to forget it.
rm asked
! GIVEN=stale git -c "credential.helper=$PWD/helper" clone -q "$url" stale 2> said
[ "$(tr '\n' ' ' < asked)" = "get erase " ] || { cat asked said >&2; exit 1; }

for scheme in Bearer token; do
  git -c "http.extraHeader=Authorization: $scheme $TOKEN" clone -q "$url" "$scheme"
  holds "$scheme" first
done

cd password
echo second > file
git commit -qam second
git push -q
cd ..
git clone -q "$(with "agent:$TOKEN")" again
holds again second
