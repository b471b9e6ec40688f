// Stock SDKs of Node that are no example: each goes through the broker by base URL and token alone.
import Anthropic from '@anthropic-ai/sdk'
import OpenAI from 'openai'

const { BROKER, TOKEN } = process.env
const messages = [{ role: 'user', content: 'Say hello.' }]

const openai = new OpenAI({ baseURL: `${BROKER}/exchange/openai/v1`, apiKey: TOKEN })
console.log('openai', (await openai.chat.completions.create({ model: 'gpt-5', messages })).choices[0].message.content)
let text = ''
for await (const chunk of await openai.chat.completions.create({ model: 'gpt-5', messages, stream: true })) {
  text += chunk.choices[0].delta.content ?? ''
}
console.log('openai', text)

const anthropic = new Anthropic({ baseURL: `${BROKER}/exchange/anthropic`, apiKey: TOKEN })
const ask = { model: 'claude-sonnet-4-5', max_tokens: 64, messages }
console.log('anthropic', (await anthropic.messages.create(ask)).content[0].text)
console.log('anthropic', await anthropic.messages.stream(ask).finalText())
