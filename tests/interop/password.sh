# wget and curl, which send a password when they are asked for one; and curl, which sends it at once.
set -euo pipefail
is_there() { grep -q '"uri":"/v1/contacts"' || { echo "$1 did not get through" >&2; exit 1; }; }
export HOME=$PWD
wget -q -T 20 -t 1 -O - --user agent --password "$TOKEN" "$CONTACTS" | is_there wget
for how in --anyauth --basic; do
  curl -sS --max-time 20 $how -u "agent:$TOKEN" "$CONTACTS" | is_there "curl $how"
done
# As Stripe's documentation shows it.
curl -sS --max-time 20 -u "$TOKEN:" "$CONTACTS" | is_there "curl -u KEY:"
[ "$(curl -sS --max-time 20 -o refusal -w '%{http_code}' --anyauth -u agent:wrong "$CONTACTS")" = 401 ]
! wget -q -T 20 -t 1 -O refusal --user agent --password wrong "$CONTACTS"
