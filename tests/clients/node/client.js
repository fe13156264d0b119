// A caller of rexd in Node.js: @grpc/grpc-js, with the one proto loaded as it is.
//
//     npm install
//     node client.js --target dns:///127.0.0.1:50051 --registry registry.test

'use strict';

const { createHash } = require('node:crypto');
const fs = require('node:fs/promises');
const path = require('node:path');
const { setTimeout: sleep } = require('node:timers/promises');
const { parseArgs } = require('node:util');

const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const CALL_SECONDS = 5;
const ATTEMPT_SECONDS = 30;
// A download fails after this many attempts in a row that receive no data.
const FRUITLESS_ATTEMPTS = 3;

// int64 as a number: sizes of blobs are far below 2^53.
const LOADING = { keepCase: true, longs: Number, enums: String, defaults: true, oneofs: true };
const API = path.join(__dirname, '../../../proto');
const GOOGLE = path.dirname(require.resolve('google-proto-files/package.json'));
const { RegistryService } = grpc.loadPackageDefinition(
  protoLoader.loadSync('rex/registry/v1/registry.proto', { ...LOADING, includeDirs: [API] }),
).rex.registry.v1;
const rich = protoLoader.loadSync(['google/rpc/status.proto', 'google/rpc/error_details.proto'], {
  ...LOADING,
  includeDirs: [GOOGLE],
});

const SERVICE_CONFIG = {
  // gRPC connections are long-lived. Without round_robin, all calls go to the first replica in the DNS response.
  loadBalancingConfig: [{ round_robin: {} }],
  methodConfig: [
    {
      name: [{ service: 'rex.registry.v1.RegistryService' }],
      // All calls are read-only and safe to retry. gRPC does not retry a stream that has begun; download() resumes it.
      retryPolicy: {
        maxAttempts: 4,
        initialBackoff: '0.1s',
        maxBackoff: '2s',
        backoffMultiplier: 2,
        retryableStatusCodes: ['UNAVAILABLE'],
      },
    },
  ],
};

const OPTIONS = {
  'grpc.service_config': JSON.stringify(SERVICE_CONFIG),
  // The content of a manifest alone can reach gRPC's default limit of 4 MiB; the response has other fields too.
  'grpc.max_receive_message_length': 8 << 20,
  // A stream receives at most one flow-control window per round trip: the default, 64 KiB, gives 3 MB/s at 20 ms.
  'grpc-node.flow_control_window': 4 << 20,
};

/** The deadline of a call that begins now. */
function within(seconds) {
  return { deadline: Date.now() + seconds * 1000 };
}

/** A unary call as a promise. */
function call(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, within(CALL_SECONDS), (error, response) => (error ? reject(error) : resolve(response)));
  });
}

/** The ErrorInfo and the RetryInfo of a failed call, where the status has them. */
function details(error) {
  const found = {};
  const [packed] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (packed) {
    for (const { type_url, value } of rich['google.rpc.Status'].deserialize(packed).details) {
      const name = type_url.split('/').pop();
      if (name === 'google.rpc.ErrorInfo') found.errorInfo = rich[name].deserialize(value);
      if (name === 'google.rpc.RetryInfo') found.retryInfo = rich[name].deserialize(value);
    }
  }
  return found;
}

function waitSeconds({ retry_delay: delay }) {
  return delay.seconds + delay.nanos / 1e9;
}

/** All tags, and the number of pages they came on. */
async function listTags(client, registry, repository) {
  const tags = [];
  let pages = 0;
  let page_token = '';
  do {
    const page = await call(client, 'ListTags', { registry, repository, page_size: 100, page_token });
    tags.push(...page.tags);
    pages += 1;
    page_token = page.next_page_token;
  } while (page_token);
  return { tags, pages };
}

function getManifest(client, registry, repository, reference, platform) {
  return call(client, 'GetManifest', { registry, repository, reference, platform });
}

/** Downloads a blob to `file`, which is created only after the digest matches. Returns the codes it resumed after. */
async function download(client, registry, repository, digest, file, attemptSeconds = ATTEMPT_SECONDS) {
  const [algorithm, expected] = digest.split(':');
  const part = `${file}.part`;
  const hash = createHash(algorithm);
  const resumedAfter = new Set();
  let received = 0;
  let fruitless = 0;
  const output = await fs.open(part, 'w');
  try {
    for (let complete = false; !complete; ) {
      const began = received;
      const request = { registry, repository, digest, offset: received };
      try {
        // Reading one message at a time applies back-pressure: the service sends no faster than the disk writes.
        for await (const message of client.StreamBlob(request, within(attemptSeconds))) {
          if (message.chunk) {
            await output.writeFile(message.chunk.data);
            hash.update(message.chunk.data);
            received += message.chunk.data.length;
          }
          complete = Boolean(message.trailer);
        }
        if (!complete) throw new Error('the stream ended without a trailer');
      } catch (error) {
        fruitless = received > began ? 0 : fruitless + 1;
        const again = [grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED].includes(error.code);
        if (!again || fruitless === FRUITLESS_ATTEMPTS) throw error;
        resumedAfter.add(grpc.status[error.code]);
        const { retryInfo } = details(error);
        await sleep(retryInfo ? waitSeconds(retryInfo) * 1000 : 100);
      }
    }
    // The service verifies only blobs that are read as a whole; a resumed one has to be verified here.
    if (hash.digest('hex') !== expected) throw new Error(`${file} does not match ${digest}`);
    await fs.rename(part, file);
  } finally {
    await output.close();
    await fs.rm(part, { force: true });
  }
  return { resumedAfter: [...resumedAfter].sort(), size: received };
}

/** One line of JSON, its keys sorted. */
function show(facts) {
  const sorted = (_, value) =>
    value && typeof value === 'object' && !Array.isArray(value)
      ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
      : value;
  console.log(JSON.stringify(facts, sorted));
}

function showManifest(response) {
  const layers = response.image_manifest.layers.map(({ digest, size }) => ({ digest, size }));
  show({ event: 'manifest', digest: response.content_descriptor.digest, index: response.index.digest, layers });
}

/** Makes a call. If it fails, prints the error and the reaction, and retries if the status has a RetryInfo. */
async function react(attempt) {
  try {
    return await attempt();
  } catch (error) {
    if (!(error.code in grpc.status)) throw error;
    const code = grpc.status[error.code];
    const { errorInfo, retryInfo } = details(error);
    const wait = retryInfo && Math.ceil(waitSeconds(retryInfo));
    let reaction = 'gave up';
    if (code === 'DATA_LOSS') reaction = 'discarded file';
    else if (retryInfo) reaction = `retry after ${wait} s`;
    show({ event: 'failure', code, reason: errorInfo?.reason ?? '', reaction });
    if (!retryInfo) return undefined;
    await sleep(wait * 1000);
    return attempt();
  }
}

async function main() {
  const { values } = parseArgs({
    options: {
      target: { type: 'string', default: 'dns:///127.0.0.1:50051' },
      registry: { type: 'string', default: 'registry.test' },
      directory: { type: 'string', default: '.' },
    },
  });
  const { registry } = values;
  const client = new RegistryService(values.target, grpc.credentials.createInsecure(), OPTIONS);

  const pong = await call(client, 'Ping', { registry });
  show({ event: 'ping', api_version: pong.api_version, auth_scheme: pong.auth_scheme, registry: pong.registry });

  const { tags, pages } = await listTags(client, registry, 'team/app');
  show({ event: 'tags', pages, tags });

  const image = await getManifest(client, registry, 'team/app', 'v1', 'linux/arm64');
  showManifest(image);
  showManifest(await getManifest(client, registry, 'team/flaky', 'v1', 'linux/amd64'));

  const { digest } = image.image_manifest.layers[0];
  const file = (repository) => path.join(values.directory, `${repository.replace('/', '-')}.blob`);
  for (const [repository, seconds] of [['team/app', ATTEMPT_SECONDS], ['team/stall', 2]]) {
    const { resumedAfter, size } = await download(client, registry, repository, digest, file(repository), seconds);
    const sha256 = createHash('sha256').update(await fs.readFile(file(repository))).digest('hex');
    show({ event: 'blob', bytes: size, repository, resumed_after: resumedAfter, sha256 });
  }

  await react(() => getManifest(client, registry, 'team/app', 'absent', ''));
  await react(() => getManifest(client, registry, 'team/private', 'v1', ''));
  await react(() => download(client, registry, 'team/corrupt', digest, file('team/corrupt')));
  showManifest(await react(() => getManifest(client, registry, 'team/limited', 'v1', 'linux/amd64')));
  client.close();
}

main().catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
