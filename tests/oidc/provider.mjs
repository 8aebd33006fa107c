// A real OpenID provider for the identity tests: prints its port, and ends when its standard input does.
//
// `urn:tollgate:test:job` is a grant like a CI system's: a job gets an ID token for its audience without anybody
// logging in; `ttl` says for how many seconds. `client_credentials` with the resource `urn:tollgate` gives an access token in JWT form.

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const JOB_GRANT = 'urn:tollgate:test:job';
const JOB_CLAIMS = { project_path: 'acme/report', ref_protected: 'true', pipeline_id: '42' };

function key(kid, alg, type, options) {
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

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const provider = new Provider(`http://127.0.0.1:${port}`, {
    clients: [
      client('tollgate', 'RS256'),
      client('tollgate-ps256', 'PS256'),
      client('tollgate-es256', 'ES256'),
      client('tollgate-eddsa', 'EdDSA'),
      client('tollgate-hs256', 'HS256'),
      client('vault', 'RS256'),
    ],
    enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA', 'HS256'] },
    jwks: {
      keys: [
        key('rsa-1', 'RS256', 'rsa', { modulusLength: 2048 }),
        key('rsa-2', 'PS256', 'rsa', { modulusLength: 2048 }),
        key('ec-1', 'ES256', 'ec', { namedCurve: 'P-256' }),
        key('ed-1', 'EdDSA', 'ed25519'),
      ],
    },
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
    ctx.body = { id_token: await token.issue({ use: 'idtoken' }) };
  }, ['ttl']);
  server.on('request', provider.callback());
  process.stdout.write(`${port}\n`);
});

process.stdin.on('end', () => process.exit(0)).resume();
