// What the test has prepared: a broker, an agent, and the upstream `crm` behind it.
import assert from 'node:assert/strict'
import * as client from 'openid-client'

export const issuer = process.env.BROKER
export const id = process.env.CLIENT_ID
export const secret = process.env.CLIENT_SECRET
export const contacts = new URL(`${issuer}/exchange/crm/v1/contacts`)

// The client, configured by discovery alone (RFC 8414).
export async function discover(authentication, metadata = {}) {
  return await client.discovery(new URL(issuer), id, metadata, authentication, {
    algorithm: 'oauth2',
    execute: [client.allowInsecureRequests], // loopback only
  })
}

// A brokered call that reached the upstream.
export async function reached(answer) {
  assert.equal(answer.status, 200)
  const echo = await answer.json()
  assert.equal(echo.uri, '/v1/contacts')
  return echo
}
