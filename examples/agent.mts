// An agent in TypeScript: a token that is bound to a key (DPoP), and calls through the broker. `npm install openid-client`.
import * as client from 'openid-client'

const broker = process.env.BROKER ?? 'http://127.0.0.1:8600'
const { CLIENT_ID = '', CLIENT_SECRET = '' } = process.env

// Everything about the broker comes from its metadata. Without TLS only a broker on loopback is spoken to.
const isLoopback = ['127.0.0.1', '[::1]', 'localhost'].includes(new URL(broker).hostname)
const config = await client.discovery(new URL(broker), CLIENT_ID, {}, client.ClientSecretBasic(CLIENT_SECRET), {
  algorithm: 'oauth2',
  execute: isLoopback ? [client.allowInsecureRequests] : [],
})

// The key lives and dies with this process; whoever copies the token can do nothing with it.
const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
const { access_token, token_type } = await client.clientCredentialsGrant(config, { task: 'read the contacts' }, { DPoP })
console.log(token_type)

const contacts = new URL(`${broker}/exchange/crm/v1/contacts`)
const call = (method: string, body?: URLSearchParams, options?: client.DPoPOptions) =>
  client.fetchProtectedResource(config, access_token, contacts, method, body, undefined, options)

// The library makes a fresh proof for each call, with the nonce that the broker asks for.
const answer = await call('GET', undefined, { DPoP })
console.log(answer.status, await answer.text())

// What the agent's roles do not give is refused, and so is the token without its key. The error brings the challenge.
const refused = (error: unknown) => {
  if (!(error instanceof client.WWWAuthenticateChallengeError)) throw error
  const challenge = error.cause.find(({ parameters }) => parameters.error)
  console.log(error.response.status, challenge?.parameters.error)
}
await call('POST', new URLSearchParams({ name: 'Ada' }), { DPoP }).catch(refused)
await call('GET').catch(refused)
