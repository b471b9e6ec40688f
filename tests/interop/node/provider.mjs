// npm's oidc-provider: a certified OpenID Connect server, over TLS, with a public client that has the device flow, and two
// people. CERT and KEY are its certificate and private key. Prints its issuer once it listens.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:https'
import { Provider } from 'oidc-provider'

const people = {
  ada: { email: 'ada@example.com', email_verified: true, groups: ['engineering', 'platform'] },
  eve: { email: 'eve@example.com', email_verified: true, groups: ['auditors'] },
  mallory: { email: 'ada@example.com', email_verified: false, groups: ['interns'] },
}

const server = createServer({ cert: readFileSync(process.env.CERT), key: readFileSync(process.env.KEY) })
server.listen(0, '127.0.0.1', () => {
  const issuer = `https://127.0.0.1:${server.address().port}`
  const client = {
    client_id: 'hallpass-cli',
    token_endpoint_auth_method: 'none',
    grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
    redirect_uris: [],
    response_types: [],
  }
  const provider = new Provider(issuer, {
    clients: [client, { ...client, client_id: 'another-cli' }],
    cookies: { keys: ['for-this-test-alone'] },
    claims: { openid: ['sub'], email: ['email', 'email_verified'], profile: ['groups'] },
    // Claims by scope go into the ID token, as most servers can be told to do.
    conformIdTokenClaims: false,
    features: { deviceFlow: { enabled: true } },
    findAccount: (_, sub) => people[sub] && { accountId: sub, claims: () => ({ sub, ...people[sub] }) },
  })
  server.on('request', provider.callback())
  console.log(JSON.stringify({ issuer }))
})
