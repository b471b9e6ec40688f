// An authorization server on Node, for scale: npm's oidc-provider, everything in memory, one client, JWT access tokens.
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const [algorithm, client_id, client_secret] = process.argv.slice(2);
const pair =
  algorithm === "EdDSA" ? generateKeyPairSync("ed25519") : generateKeyPairSync("ec", { namedCurve: "P-256" });
const key = { ...pair.privateKey.export({ format: "jwk" }), kid: "bench", alg: algorithm, use: "sig" };
const resource = {
  scope: "contacts.read contacts.write",
  audience: "urn:bench",
  accessTokenFormat: "jwt",
  accessTokenTTL: 300,
  jwt: { sign: { alg: algorithm } },
};
const provider = new Provider("http://127.0.0.1", {
  clients: [
    {
      client_id,
      client_secret,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: algorithm,
    },
  ],
  enabledJWA: { idTokenSigningAlgValues: [algorithm] },
  jwks: { keys: [key] },
  routes: { token: "/oauth2/token" },
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "urn:bench",
      getResourceServerInfo: () => resource,
      useGrantedResource: () => true,
    },
  },
});
const server = provider.listen(0, "127.0.0.1", () => console.log(`127.0.0.1:${server.address().port}`));
server.keepAliveTimeout = 60_000;
