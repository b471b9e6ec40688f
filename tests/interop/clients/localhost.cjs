// RFC 6761 section 6.3: names below localhost are loopback. Not every system's look-up knows that.
const dns = require('node:dns')
const lookup = dns.lookup
dns.lookup = (host, options, done) => lookup(/(^|\.)localhost$/.test(host) ? '127.0.0.1' : host, options, done)
