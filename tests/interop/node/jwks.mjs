// jose: an API that verifies tokens by itself, while the signing key is rotated under it.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import * as jose from 'jose'
import * as client from 'openid-client'
import { discover, id, issuer, secret } from './scene.mjs'

const config = await discover(client.ClientSecretBasic(secret))
let fetched = 0
const jwks = jose.createRemoteJWKSet(new URL(config.serverMetadata().jwks_uri), {
  cooldownDuration: 0, // half a minute by default: the test rotates faster than anybody should
  [jose.customFetch]: (...request) => (fetched++, fetch(...request)),
})
const verify = (token) => jose.jwtVerify(token, jwks, { issuer, audience: `${issuer}/exchange`, typ: 'at+jwt' })
const grant = async () => (await client.clientCredentialsGrant(config)).access_token
const rotate = () => execFileSync(process.env.HALLPASS, ['key', 'rotate'])

const before = await grant()
const { payload, protectedHeader } = await verify(before)
assert.equal(payload.client_id, id)
assert.equal(fetched, 1)

rotate()
const second = await grant()
const { protectedHeader: rotated } = await verify(second)
assert.notEqual(rotated.kid, protectedHeader.kid)
assert.equal(fetched, 1, 'the next key was published before it signed')

rotate()
const third = await grant()
await verify(third)
assert.equal(fetched, 2, 'an unknown kid makes the library look again')
for (const token of [before, second]) await verify(token) // good until they die

const [head, body, signature] = third.split('.')
const claims = { ...jose.decodeJwt(third), scope: 'crm:contacts.write' }
const forged = [head, Buffer.from(JSON.stringify(claims)).toString('base64url'), signature].join('.')
await assert.rejects(verify(forged), { code: 'ERR_JWS_SIGNATURE_VERIFICATION_FAILED' })
assert.ok(body)
