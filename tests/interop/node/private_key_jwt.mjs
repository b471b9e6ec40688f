// openid-client: a client that proves itself by a key (RFC 7523), alone and together with DPoP.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import * as jose from 'jose'
import * as client from 'openid-client'
import { contacts, issuer, reached } from './scene.mjs'

for (const algorithm of ['ES256', 'Ed25519', 'PS256']) {
  const { publicKey, privateKey } = await jose.generateKeyPair(algorithm)
  const jwk = { ...(await jose.exportJWK(publicKey)), kid: `key-${algorithm}` }
  writeFileSync('jwks.json', JSON.stringify({ keys: [jwk] }))
  const name = `signer-${algorithm.toLowerCase()}`
  const register = ['agent', 'register', name, '--role', 'support', '--jwks', 'jwks.json', '--no-secret', '--json']
  const agent = JSON.parse(execFileSync(process.env.HALLPASS, register))
  assert.equal(agent.client_secret ?? null, null)

  const discover = async (key) =>
    await client.discovery(new URL(issuer), agent.client_id, {}, client.PrivateKeyJwt({ key, kid: jwk.kid }), {
      algorithm: 'oauth2',
      execute: [client.allowInsecureRequests],
    })
  const config = await discover(privateKey)
  const server = config.serverMetadata()
  assert.ok(server.token_endpoint_auth_methods_supported.includes('private_key_jwt'))
  const tokens = await client.clientCredentialsGrant(config)
  await reached(await client.fetchProtectedResource(config, tokens.access_token, contacts, 'GET'))
  await client.tokenRevocation(config, tokens.access_token)
  await assert.rejects(client.fetchProtectedResource(config, tokens.access_token, contacts, 'GET'))

  const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
  const bound = await client.clientCredentialsGrant(config, {}, { DPoP })
  assert.equal(bound.token_type, 'dpop')
  await reached(
    await client.fetchProtectedResource(config, bound.access_token, contacts, 'GET', null, null, { DPoP }),
  )

  const stranger = await discover((await jose.generateKeyPair(algorithm)).privateKey)
  await assert.rejects(client.clientCredentialsGrant(stranger), { status: 401 })
}
