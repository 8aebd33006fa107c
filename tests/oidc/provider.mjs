// A real OpenID provider for the identity tests: prints its port, and ends when its standard input does.
//
// `urn:tollgate:test:job` is a grant like a CI system's: a job gets an ID token for its audience without anybody
// logging in; `ttl` says for how many seconds, `nbf` in how many seconds it begins. `client_credentials` with the resource
// `urn:tollgate` gives an access token in JWT form.
//
// What happens to a provider is told it on standard input, one JSON object a line; each is answered by one of JSON:
//   {"key": "rsa-1", "alg": "RS256"}   a key that signs from now on, in the place of the one of this name, or beside the others
//   {"drop": "rsa-1"}                  a key that is not published any more
//   {"clock": 60}                      by how many seconds its clock is fast
//   {"listening": false}               nobody is answered: connections are refused; true: they are answered again
//   {"fault": "hang", "at": "/jwks"}   what is wrong with one of its documents, from `FAULTS`; null: nothing is
//   {"confuse": "rsa-1"}               gives a token with the HMAC of a public key, as a text, for a signature
//   {"asked": "/jwks"}                 gives how often that was asked for

import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import Provider from 'oidc-provider';

const JOB_GRANT = 'urn:tollgate:test:job';
const JOB_CLAIMS = { project_path: 'acme/report', ref_protected: 'true', pipeline_id: '42' };
const ALGORITHMS = ['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'ES512', 'EdDSA', 'HS256'];
const DISCOVERY = '/.well-known/openid-configuration';
const MEBIBYTE = 1024 * 1024;

const FAULTS = {
  hang: () => {},
  // A byte now and then: no single wait is long.
  drip: (_, response) => {
    response.writeHead(200, { 'content-type': 'application/json' });
    const timer = setInterval(() => response.write(' '), 100);
    response.on('close', () => clearInterval(timer));
  },
  slow: (real, response) => setTimeout(() => answer(response, 200, real), 700),
  broken: (_, response) => answer(response, 500, 'broken'),
  moved: (_, response) => response.writeHead(302, { location: '/moved' }).end(),
  html: (_, response) => answer(response, 200, '<html>'),
  cut: (real, response) => answer(response, 200, real.slice(0, -1)),
  huge: (real, response) => answer(response, 200, real + ' '.repeat(MEBIBYTE)),
  deep: (_, response) => answer(response, 200, '['.repeat(MEBIBYTE / 2) + ']'.repeat(MEBIBYTE / 2)),
  empty: (_, response) => answer(response, 200, '{"keys": []}'),
  list: (_, response) => answer(response, 200, '[]'),
  // Keys of kinds that nobody knows, or that are none, beside the real ones.
  junk: (real, response) => {
    const junk = [{ kty: 'XXX', kid: 'x' }, { kty: 'RSA', kid: 'y', n: 'AA', e: 'AQAB' }, { kty: 'EC', kid: 'z', crv: 'P-0' }];
    answer(response, 200, JSON.stringify({ keys: [...junk, ...JSON.parse(real).keys] }));
  },
  impostor: (real, response) => changed(real, response, { issuer: 'https://evil.test' }),
  elsewhere: (real, response) => changed(real, response, { jwks_uri: 'http://192.0.2.1/jwks' }),
  local: (real, response) => changed(real, response, { jwks_uri: 'file:///etc/hostname' }),
  nowhere: (real, response) => changed(real, response, { jwks_uri: undefined }),
};

function answer(response, status, body) {
  response.writeHead(status, { 'content-type': 'application/json' }).end(body);
}

function changed(real, response, claims) {
  answer(response, 200, JSON.stringify({ ...JSON.parse(real), ...claims }));
}

function key(kid, alg) {
  const [type, options] = {
    R: ['rsa', { modulusLength: 2048 }],
    P: ['rsa', { modulusLength: 2048 }],
    ES256: ['ec', { namedCurve: 'P-256' }],
    ES384: ['ec', { namedCurve: 'P-384' }],
    ES512: ['ec', { namedCurve: 'P-521' }],
    EdDSA: ['ed25519'],
  }[alg.startsWith('E') ? alg : alg[0]];
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), kid, alg, use: 'sig' };
}

function client(client_id, id_token_signed_response_alg) {
  return {
    client_id,
    client_secret: 'job-secret',
    id_token_signed_response_alg,
    token_endpoint_auth_method: 'client_secret_post',
    grant_types: [JOB_GRANT, 'client_credentials'],
    redirect_uris: [],
    response_types: [],
  };
}

function start(port) {
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [
      client('tollgate', 'RS256'),
      client('vault', 'RS256'),
      ...ALGORITHMS.map((alg) => client(`tollgate-${alg}`, alg)),
    ],
    enabledJWA: { idTokenSigningAlgValues: ALGORITHMS },
    jwks: { keys },
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: '',
          audience: 'tollgate',
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    extraTokenClaims: () => JOB_CLAIMS,
    ttl: { IdToken: (ctx) => Number(ctx.oidc.params?.ttl ?? 3600) },
    scopes: [],
  });
  provider.registerGrantType(JOB_GRANT, async (ctx) => {
    const token = new provider.IdToken({ sub: 'job-4711' }, { ctx });
    token.scope = 'openid';
    for (const [claim, value] of Object.entries(JOB_CLAIMS)) token.set(claim, value);
    const { nbf } = ctx.oidc.params;
    if (nbf !== undefined) token.set('nbf', Math.floor(Date.now() / 1000) + Number(nbf));
    ctx.body = { id_token: await token.issue({ use: 'idtoken' }) };
  }, ['ttl', 'nbf']);
  return provider.callback();
}

/// What the real provider answers, as text.
async function real(path) {
  faults.delete(path);
  const response = await fetch(`http://127.0.0.1:${server.address().port}${path}`);
  asked.set(path, asked.get(path) - 1);
  return response.text();
}

const keys = [
  key('rsa-1', 'RS256'),
  key('rsa-2', 'PS256'),
  // Signs whatever RSA signs, and does not say what.
  { ...key('rsa-3', 'RS384'), alg: undefined },
  key('ec-1', 'ES256'),
  key('ec-2', 'ES384'),
  key('ec-3', 'ES512'),
  key('ed-1', 'EdDSA'),
];
const faults = new Map();
const asked = new Map();
const now = Date.now;
let callback;

const server = createServer((request, response) => {
  asked.set(request.url, (asked.get(request.url) ?? 0) + 1);
  const fault = faults.get(request.url);
  if (fault) fault(response);
  else callback(request, response);
});

function listen(port) {
  return new Promise((done) => { server.listen(port, '127.0.0.1', done); });
}

await listen(0);
const { port } = server.address();
callback = start(port);
process.stdout.write(`${port}\n`);

const commands = {
  key: async ({ key: kid, alg }) => {
    const before = keys.findIndex((other) => other.kid === kid);
    if (before >= 0) keys.splice(before, 1);
    keys.unshift(key(kid, alg));
    callback = start(port);
  },
  drop: async ({ drop }) => {
    keys.splice(keys.findIndex((other) => other.kid === drop), 1);
    callback = start(port);
  },
  clock: async ({ clock }) => { Date.now = () => now() + clock * 1000; },
  listening: async ({ listening }) => {
    if (listening) return listen(port);
    server.closeAllConnections();
    return new Promise((done) => { server.close(done); });
  },
  fault: async ({ fault, at }) => {
    faults.clear();
    if (fault === null) return;
    const document = await real(at);
    faults.set(at, (response) => FAULTS[fault](document, response));
  },
  confuse: async ({ confuse }) => {
    const secret = createPrivateKey({ key: keys.find((other) => other.kid === confuse), format: 'jwk' });
    const pem = createPublicKey(secret).export({ type: 'spki', format: 'pem' });
    const seconds = Math.floor(Date.now() / 1000);
    const claims = { iss: `http://127.0.0.1:${port}`, aud: 'tollgate', sub: 'job-4711', iat: seconds, exp: seconds + 60, ...JOB_CLAIMS };
    const input = [{ alg: 'HS256', typ: 'JWT', kid: confuse }, claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
      .join('.');
    return `${input}.${createHmac('sha256', pem).update(input).digest('base64url')}`;
  },
  asked: async ({ asked: path }) => asked.get(path) ?? 0,
};

for await (const line of createInterface({ input: process.stdin })) {
  const told = JSON.parse(line);
  const verb = Object.keys(told).find((name) => name in commands);
  process.stdout.write(`${JSON.stringify((await commands[verb](told)) ?? null)}\n`);
}
process.exit(0);
