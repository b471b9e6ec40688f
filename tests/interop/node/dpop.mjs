// openid-client: tokens that are bound to a key (RFC 9449), with the nonce retry that the library makes by itself.
import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { contacts, discover, reached, secret } from './scene.mjs'

for (const algorithm of ['ES256', 'Ed25519', 'PS256', 'RS256']) {
  const config = await discover(client.ClientSecretBasic(secret))
  const statuses = []
  config[client.customFetch] = async (...request) => {
    const answer = await fetch(...request)
    statuses.push(answer.status)
    return answer
  }
  const key = await client.randomDPoPKeyPair(algorithm)
  const DPoP = client.getDPoPHandle(config, key)
  const tokens = await client.clientCredentialsGrant(config, {}, { DPoP })
  assert.equal(tokens.token_type, 'dpop')
  assert.deepEqual(statuses, [400, 200], 'asked for a nonce once')
  const call = () => client.fetchProtectedResource(config, tokens.access_token, contacts, 'GET', null, null, { DPoP })
  const echo = await reached(await call())
  assert.equal(echo.headers.dpop, undefined, 'the proof stays at the broker')
  await reached(await call())
  assert.deepEqual(statuses, [400, 200, 200, 200], 'the nonce of the token endpoint is good at the exchange endpoint')

  const info = await client.tokenIntrospection(config, tokens.access_token)
  assert.equal(info.token_type, 'DPoP')
  assert.equal(info.cnf.jkt, await DPoP.calculateThumbprint())

  // A process that starts with the key and the token knows no nonce: the exchange endpoint asks for it as well.
  const again = client.getDPoPHandle(config, key)
  statuses.length = 0
  const options = { DPoP: again }
  await reached(await client.fetchProtectedResource(config, tokens.access_token, contacts, 'GET', null, null, options))
  assert.deepEqual(statuses, [401, 200], 'asked for a nonce once')

  // The token alone, and with another key.
  const thief = client.getDPoPHandle(config, await client.randomDPoPKeyPair(algorithm))
  for (const options of [undefined, { DPoP: thief }]) {
    const stolen = client.fetchProtectedResource(config, tokens.access_token, contacts, 'GET', null, null, options)
    await assert.rejects(stolen, (error) => {
      assert.equal(error.response.status, 401)
      assert.ok(error.cause.some(({ scheme }) => scheme === 'dpop'))
      return true
    })
  }
}
