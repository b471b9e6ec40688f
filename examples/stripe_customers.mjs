// Stripe's SDK through the broker, by a host name of its own (public_hosts).
import Stripe from 'stripe'

const broker = new URL(process.env.STRIPE_HOST ?? 'http://stripe.localhost:8600')
const stripe = new Stripe(process.env.TOKEN, {
  host: broker.hostname, port: broker.port, protocol: broker.protocol.slice(0, -1), telemetry: false,
})
for await (const customer of stripe.customers.list({ limit: 1 })) console.log(customer.id)
console.log((await stripe.customers.create({ email: 'grace@example.com' })).email)
