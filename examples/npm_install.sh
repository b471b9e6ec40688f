#!/usr/bin/env bash
# npm through the broker: its registry is the broker, its token is the agent's. Tarballs come from there, too.
set -euo pipefail
registry="$BROKER/exchange/npm/"
cat > .npmrc <<END
registry=$registry
${registry#http*:}:_authToken=\${TOKEN}
replace-registry-host=always
END
npm install --no-audit --no-fund --cache ./npm-cache @acme/answer
node -p "require('@acme/answer')"
