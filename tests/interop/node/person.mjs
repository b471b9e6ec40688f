// A person with a browser: opens the page of a device flow, confirms the code, logs in and consents, by the forms as they
// come. CA is the file of the certificate that the issuer's own is checked by.
import { readFileSync } from 'node:fs'
import { Agent, fetch } from 'undici'

const [page, login] = process.argv.slice(2)
const dispatcher = new Agent({ connect: { ca: readFileSync(process.env.CA) } })
const cookies = new Map()

async function open(url, body) {
  const headers = { cookie: [...cookies].map(([name, value]) => `${name}=${value}`).join('; ') }
  const answer = await fetch(url, { method: body ? 'POST' : 'GET', body, headers, redirect: 'manual', dispatcher })
  for (const line of answer.headers.getSetCookie()) {
    const [name, ...value] = line.split(';')[0].split('=')
    cookies.set(name, value.join('='))
  }
  const next = answer.headers.get('location')
  return next ? await open(new URL(next, url)) : { url, status: answer.status, html: await answer.text() }
}

let here = await open(new URL(page))
for (let step = 0; step < 6 && here.html.includes('<form'); step++) {
  const action = /<form[^>]* action="([^"]*)"/.exec(here.html)[1]
  const fields = new URLSearchParams()
  for (const [input] of here.html.matchAll(/<input[^>]*>/g)) {
    const [, name] = / name="([^"]*)"/.exec(input) ?? []
    if (name) fields.set(name, { login, password: 'any' }[name] ?? / value="([^"]*)"/.exec(input)?.[1] ?? '')
  }
  if (here.html.includes('name="confirm"')) fields.set('confirm', 'yes')
  fields.delete('abort')
  here = await open(new URL(action, here.url), fields)
}
if (here.status !== 200 || here.html.includes('<form')) throw new Error(`${here.status} ${here.url}\n${here.html}`)
console.log(/<h1>([^<]*)/.exec(here.html)?.[1] ?? 'done')
