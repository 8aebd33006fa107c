// A real OAuth 2.0 authorization server for the tests of credentials: prints its port, and ends when its standard input does.
//
// Clients, each by the name of how it proves itself: `basic`, `post`, `key` (its public key: TOLLGATE_TEST_KEY, PKCS#1 in base64), `none`.
// Grants: client credentials; refresh, with a new refresh token each time and the whole grant void when an old one is seen;
// exchange of a job's token that it issued itself for the audience `tollgate`;
// `urn:tollgate:test:job`, a job's token; `urn:tollgate:test:seed`, a first refresh token.

import { createPublicKey } from 'node:crypto';
import { createServer } from 'node:http';
import Provider, { errors } from 'oidc-provider';
import { createRemoteJWKSet, jwtVerify } from 'jose';

const { TOLLGATE_TEST_KEY } = process.env;
const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JOB = 'urn:tollgate:test:job';
const SEED = 'urn:tollgate:test:seed';

function client(client_id, method, more) {
  return {
    client_id,
    token_endpoint_auth_method: method,
    grant_types: ['client_credentials', 'refresh_token', 'authorization_code', EXCHANGE, JOB, SEED],
    redirect_uris: ['https://client.test/back'],
    response_types: ['code'],
    ...more,
  };
}

function jwk(base64) {
  const key = createPublicKey({ key: Buffer.from(base64, 'base64'), format: 'der', type: 'pkcs1' });
  return { ...key.export({ format: 'jwk' }), alg: 'RS256', use: 'sig' };
}

const server = createServer();
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const own = `http://127.0.0.1:${port}`;
  const keys = createRemoteJWKSet(new URL(`${own}/jwks`));
  const secret = { client_secret: 's3cret: &+%' };
  const provider = new Provider(own, {
    clients: [
      client('basic', 'client_secret_basic', secret),
      client('post', 'client_secret_post', secret),
      client('none', 'none'),
      client('tollgate', 'none'),
      ...(TOLLGATE_TEST_KEY
        ? [client('key', 'private_key_jwt', { jwks: { keys: [jwk(TOLLGATE_TEST_KEY)] } })]
        : []),
    ],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      introspection: { enabled: true },
      revocation: { enabled: true },
    },
    rotateRefreshToken: () => true,
    findAccount: (_, accountId) => ({ accountId, claims: () => ({ sub: accountId }) }),
    scopes: ['openid', 'offline_access', 'orders.read'],
    ttl: { ClientCredentials: 600, AccessToken: 600, RefreshToken: 3600, Grant: 3600, IdToken: 600 },
  });
  provider.registerGrantType(JOB, async (ctx) => {
    const token = new provider.IdToken({ sub: 'job-4711' }, { ctx });
    token.scope = 'openid';
    ctx.body = { id_token: await token.issue({ use: 'idtoken' }) };
  }, []);
  provider.registerGrantType(SEED, async (ctx) => {
    const { client } = ctx.oidc;
    const scope = 'openid offline_access';
    const grant = new provider.Grant({ accountId: 'somebody', clientId: client.clientId });
    grant.addOIDCScope(scope);
    const token = new provider.RefreshToken({
      accountId: 'somebody', client, grantId: await grant.save(), scope, gty: 'authorization_code',
    });
    ctx.body = { refresh_token: await token.save() };
  }, []);
  provider.registerGrantType(EXCHANGE, async (ctx) => {
    const { subject_token: subject, subject_token_type: type, scope } = ctx.oidc.params;
    if (type !== 'urn:ietf:params:oauth:token-type:jwt') throw new errors.InvalidRequest('another kind of token');
    try {
      await jwtVerify(subject, keys, { issuer: own, audience: 'tollgate' });
    } catch {
      throw new errors.InvalidGrant('the job is nobody');
    }
    const token = new provider.ClientCredentials({ client: ctx.oidc.client, scope });
    ctx.body = {
      access_token: await token.save(),
      token_type: token.tokenType,
      expires_in: token.expiration,
      issued_token_type: 'urn:ietf:params:oauth:token-type:access_token',
    };
  }, ['subject_token', 'subject_token_type', 'scope']);
  server.on('request', provider.callback());
  process.stdout.write(`${port}\n`);
});

process.stdin.on('end', () => process.exit(0)).resume();
