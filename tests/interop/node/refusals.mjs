// The SDKs of Stripe, OpenAI, Anthropic and GitHub: a refusal of the broker is an error that shows the broker's sentence.
import assert from 'node:assert/strict'
import Anthropic from '@anthropic-ai/sdk'
import { Octokit } from '@octokit/rest'
import OpenAI from 'openai'
import Stripe from 'stripe'
import { id, issuer, secret } from './scene.mjs'

const granted = await fetch(`${issuer}/oauth2/token`, {
  method: 'POST',
  headers: { authorization: `Basic ${btoa(`${id}:${secret}`)}` },
  body: new URLSearchParams({ grant_type: 'client_credentials' }),
})
const { access_token: token } = await granted.json()
assert.ok(token)

const { hostname: host, port } = new URL(issuer)
const base = `${issuer}/exchange/crm/v1`
const once = { maxRetries: 0 }

// Each SDK, with a key: a call that no operation names.
const calls = {
  stripe: (key) => new Stripe(key, { host, port, protocol: 'http', maxNetworkRetries: 0 })
    .rawRequest('GET', '/exchange/crm/v1/nothing'),
  openai: (apiKey) => new OpenAI({ apiKey, baseURL: base, ...once }).models.list(),
  anthropic: (apiKey) => new Anthropic({ apiKey, baseURL: `${issuer}/exchange/crm`, ...once })
    .messages.create({ model: 'm', max_tokens: 1, messages: [{ role: 'user', content: 'hello' }] }),
  octokit: (key) => new Octokit({ baseUrl: base }).request('GET /nothing', { headers: { authorization: `Bearer ${key}` } }),
}
const refusals = [
  [token, 403, 'no operation of this upstream has this method and path'],
  ['placeholder', 401, 'the token is malformed; get a new one at the token endpoint'],
]
for (const [name, call] of Object.entries(calls)) {
  for (const [key, status, sentence] of refusals) {
    await assert.rejects(call(key), (error) => {
      assert.equal(error.status ?? error.statusCode, status, `${name}: ${error}`)
      assert.ok(error.message.includes(sentence), `${name}: ${error.message}`)
      return true
    }, `${name} took a ${status} for an answer`)
  }
}

// Stripe's takes a host and no path.
const bare = new Stripe(token, { host, port, protocol: 'http', maxNetworkRetries: 0 })
await assert.rejects(bare.customers.list(), (error) => {
  assert.equal(error.statusCode, 404)
  assert.match(error.message, /brokered calls go to \/exchange/)
  return true
})

// Whose answer it is.
for (const [path, source] of [['contacts', 'upstream'], ['nothing', 'broker']]) {
  const answer = await fetch(`${base}/${path}`, { headers: { authorization: `Bearer ${token}` } })
  assert.equal(answer.headers.get('x-hallpass-source'), source)
}
