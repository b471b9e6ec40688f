// openid-client over mutual TLS (RFC 8705): a client that proves itself by its certificate, and tokens bound to it.
// CA is the file of the certificate that the broker's own is checked by.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import * as client from 'openid-client'
import { Agent, fetch } from 'undici'
import { contacts, id, issuer, reached } from './scene.mjs'

const request = 'req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout bot.key -out bot.csr -subj /CN=bot'
execFileSync('openssl', request.split(' '), { stdio: 'ignore' })
execFileSync(process.env.HALLPASS, ['agent', 'issue-cert', 'helpdesk', '--csr', 'bot.csr', '--out', 'bot.crt'])

const ca = readFileSync(process.env.CA)
const own = new Agent({ connect: { ca, cert: readFileSync('bot.crt'), key: readFileSync('bot.key') } })
const bare = new Agent({ connect: { ca } })
const discover = async (dispatcher) =>
  await client.discovery(new URL(issuer), id, { use_mtls_endpoint_aliases: true }, client.TlsClientAuth(), {
    algorithm: 'oauth2',
    [client.customFetch]: (url, options) => fetch(url, { ...options, dispatcher }),
  })

const config = await discover(own)
const server = config.serverMetadata()
assert.ok(server.token_endpoint_auth_methods_supported.includes('tls_client_auth'))
assert.equal(server.tls_client_certificate_bound_access_tokens, true)
const tokens = await client.clientCredentialsGrant(config)
assert.equal(tokens.token_type, 'bearer')
await reached(await client.fetchProtectedResource(config, tokens.access_token, contacts, 'GET'))

// The token alone, without the certificate; and no certificate where the client proves itself by one.
const thief = await discover(bare)
const stolen = client.fetchProtectedResource(thief, tokens.access_token, contacts, 'GET')
await assert.rejects(stolen, (error) => {
  assert.equal(error.response.status, 401)
  assert.equal(error.cause[1].parameters.error, 'invalid_token')
  return true
})
await assert.rejects(client.clientCredentialsGrant(thief), { status: 401 })
