// openid-client: discovery, client credentials by Basic and in the body, a brokered call, introspection, revocation.
import assert from 'node:assert/strict'
import * as client from 'openid-client'
import { contacts, discover, id, issuer, reached, secret } from './scene.mjs'

for (const method of [client.ClientSecretBasic(secret), client.ClientSecretPost(secret)]) {
  const config = await discover(method)
  const server = config.serverMetadata()
  assert.equal(server.issuer, issuer)
  assert.ok(server.grant_types_supported.includes('client_credentials'))
  assert.ok(server.token_endpoint_auth_methods_supported.includes('client_secret_basic'))

  const tokens = await client.clientCredentialsGrant(config, {
    scope: 'crm:contacts.read',
    resource: `${issuer}/exchange/crm`,
  })
  assert.equal(tokens.token_type, 'bearer')
  assert.equal(tokens.scope, 'crm:contacts.read')
  assert.ok(tokens.expiresIn() > 0 && tokens.expiresIn() <= 900)
  await reached(await client.fetchProtectedResource(config, tokens.access_token, contacts, 'GET'))

  // A scope that the token has not: the library reads the challenge (RFC 6750 §3.1, RFC 9728 §5.1).
  const denied = client.fetchProtectedResource(config, tokens.access_token, contacts, 'POST', 'name=Ada')
  await assert.rejects(denied, (error) => {
    const [challenge, ...more] = error.cause
    assert.equal(error.response.status, 403)
    assert.equal(more.length, 0)
    assert.equal(challenge.scheme, 'bearer')
    assert.equal(challenge.parameters.error, 'insufficient_scope')
    assert.equal(challenge.parameters.scope, 'crm:contacts.write')
    assert.ok(challenge.parameters.resource_metadata.startsWith(issuer))
    return true
  })

  const active = await client.tokenIntrospection(config, tokens.access_token)
  assert.equal(active.active, true)
  assert.equal(active.client_id, id)
  assert.equal(active.scope, 'crm:contacts.read')
  await client.tokenRevocation(config, tokens.access_token)
  assert.deepEqual(await client.tokenIntrospection(config, tokens.access_token), { active: false })
  const dead = client.fetchProtectedResource(config, tokens.access_token, contacts, 'GET')
  await assert.rejects(dead, (error) => {
    assert.equal(error.response.status, 401)
    const [basic, bearer] = error.cause
    assert.equal(basic.scheme, 'basic')
    assert.equal(bearer.parameters.error, 'invalid_token')
    return true
  })
}

// A wrong secret, and a scope that the roles do not give: errors as RFC 6749 §5.2 has them.
const stranger = await discover(client.ClientSecretBasic('wrong'))
await assert.rejects(client.clientCredentialsGrant(stranger), (error) => {
  assert.equal(error.status, 401)
  assert.equal(error.cause[0].scheme, 'basic')
  return true
})
const config = await discover(client.ClientSecretBasic(secret))
await assert.rejects(client.clientCredentialsGrant(config, { scope: 'crm:nothing' }), { error: 'invalid_scope' })
