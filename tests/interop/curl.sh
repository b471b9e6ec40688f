# curl alone: discovery, a token, a brokered call, introspection, revocation.
set -euo pipefail
ask() { curl -sS --max-time 20 "$@"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }
is() { [ "$1" = "$2" ] || { printf 'got: %s\nnot: %s\n' "$1" "$2" >&2; exit 1; }; }

server=$(ask "$BROKER/.well-known/oauth-authorization-server")
endpoint=$(field token_endpoint <<< "$server")
call="$BROKER/exchange/crm/v1/contacts"

for credentials in "-u $CLIENT_ID:$CLIENT_SECRET" "-d client_id=$CLIENT_ID -d client_secret=$CLIENT_SECRET"; do
  # shellcheck disable=SC2086
  token=$(ask $credentials -d grant_type=client_credentials "$endpoint" | field access_token)
  is "$(ask -o answer.json -w '%{http_code}' --oauth2-bearer "$token" "$call")" 200
  # shellcheck disable=SC2086
  is "$(ask $credentials -d token="$token" "$(field introspection_endpoint <<< "$server")" | grep -c '"active":true')" 1
  # shellcheck disable=SC2086
  is "$(ask -o answer.json -w '%{http_code}' $credentials -d token="$token" "$(field revocation_endpoint <<< "$server")")" 200
  is "$(ask -o answer.json -w '%{http_code}' --oauth2-bearer "$token" "$call")" 401
done

ask -o answer.json -D head.txt "$call"
url=$(sed -n 's/^www-authenticate: Bearer .*resource_metadata="\([^"]*\)".*/\1/Ip' head.txt)
is "$(ask "$url" | field resource)" "$BROKER/exchange/crm"
