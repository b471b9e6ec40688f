// oauth4webapi: from a refused call to a token, knowing nothing of the broker but the call's URL (RFC 9728 §5, RFC 8414).
import assert from 'node:assert/strict'
import * as oauth from 'oauth4webapi'
import { contacts, id, issuer, reached, secret } from './scene.mjs'

const options = { [oauth.allowInsecureRequests]: true }
const refused = await fetch(contacts)
assert.equal(refused.status, 401)
const header = refused.headers.get('www-authenticate')
assert.match(header, /^Basic realm="hallpass", charset="UTF-8", Bearer realm="hallpass", resource_metadata="/)
assert.ok(!header.includes('DPoP'), 'for those who speak it')
const asked = await fetch(contacts, { headers: { dpop: 'x' } })
assert.match(asked.headers.get('www-authenticate'), /, DPoP realm="hallpass", algs="/)
const [, address] = /resource_metadata="([^"]+)"/.exec(header)

for (const path of ['/exchange', '/exchange/crm']) {
  const resource = new URL(`${issuer}${path}`)
  const answer = await oauth.resourceDiscoveryRequest(resource, options)
  const metadata = await oauth.processResourceDiscoveryResponse(resource, answer)
  assert.deepEqual(metadata.authorization_servers, [issuer])
  assert.deepEqual(metadata.bearer_methods_supported, ['header'])
}

const { resource, authorization_servers } = await (await fetch(address)).json()
assert.ok(contacts.href.startsWith(`${resource}/`))
const server = new URL(authorization_servers[0])
const found = await oauth.discoveryRequest(server, { algorithm: 'oauth2', ...options })
const as = await oauth.processDiscoveryResponse(server, found)
const client = { client_id: id }
const given = await oauth.clientCredentialsGrantRequest(
  as, client, oauth.ClientSecretBasic(secret), new URLSearchParams({ resource }), options,
)
const tokens = await oauth.processClientCredentialsResponse(as, client, given)
await reached(await oauth.protectedResourceRequest(tokens.access_token, 'GET', contacts, undefined, null, options))
