/** What is wrong, from what was seen, each with what to do about it. */
import { formatBytes } from '../format.js';
import type { Diagnosis, Problem } from './diagnosis.js';

const MIN_NODE = 20;
/** The smallest model of the catalogue, a short context and the program itself. */
const MIN_MEMORY_BYTES = 400 * 1024 * 1024;
/** A model of half a billion weights in 4 bits, and room to write it. */
const MIN_DISK_BYTES = 1024 ** 3;

type Facts = Omit<Diagnosis, 'usable' | 'problems'>;

/** Errors first. */
export function findProblems(facts: Facts, env: NodeJS.ProcessEnv): Problem[] {
  const found = [...programProblems(facts), ...engineProblems(facts), ...memoryProblems(facts)];
  found.push(...deviceProblems(facts));
  found.push(...cacheProblems(facts), ...networkProblems(facts, env));
  return [...found.filter(({ severity }) => severity === 'error'), ...found.filter((p) => p.severity === 'warning')];
}

function error(what: string, remedy: string): Problem {
  return { severity: 'error', what, remedy };
}

function warning(what: string, remedy: string): Problem {
  return { severity: 'warning', what, remedy };
}

function* programProblems({ program }: Facts): Generator<Problem> {
  const major = Number(/^v(\d+)/.exec(program.node)?.[1] ?? 0);
  if (major < MIN_NODE) {
    yield error(`Node.js ${program.node} is too old.`, `Install Node.js ${MIN_NODE} or newer.`);
  }
}

function* engineProblems({ engine, program }: Facts): Generator<Problem> {
  const { binary, kernels, used, forced } = engine;
  if (binary === null) {
    yield error(
      `The native engine cannot be loaded: ${engine.error}`,
      'In a checkout run `npm run build`; otherwise install the package of this platform, or set CTKVR_NATIVE_PATH to a binary.',
    );
    return;
  }
  if (used === null) {
    const usable = kernels.filter(({ why }) => why === null).map(({ name }) => name);
    yield error(
      `CTKVR_ISA is set to ${forced}, which cannot be used here.`,
      `Unset CTKVR_ISA, or set it to one of ${usable.join(', ')}.`,
    );
  }
  if (binary.version !== program.version) {
    yield warning(
      `The native engine is version ${binary.version}, the rest is ${program.version}.`,
      'In a checkout run `npm run build`; otherwise install all packages in one version.',
    );
  }
  for (const { name, state, why } of kernels) {
    if (state === 'failed') {
      yield warning(
        `The processor reports the instructions of '${name}', but ${why}. They are left out: answers are as good, only slower.`,
        'Update the system and, in a virtual machine, the host. Please report this with the output of `ctkvr doctor --json`.',
      );
    }
    if (state === 'untested') yield warning(`The kernels '${name}' are left out: ${why}.`, 'Allow child processes.');
  }
  if (used === 'scalar' && forced !== 'scalar') {
    yield warning(
      'No vector instructions are used: everything is many times slower.',
      'Use a newer processor (AVX2 or NEON).',
    );
  }
}

/** Where no driver is installed nobody expects a device to be used; where one is, it should be. */
function* deviceProblems({ device }: Facts): Generator<Problem> {
  if (device === null || !device.hasDriver) return;
  if (device.devices.some(({ unusable }) => (unusable ?? null) === null)) return;
  const why = device.reason ?? device.devices.map(({ name, unusable }) => `${name}: ${unusable}`).join('; ');
  yield warning(
    `There is a driver for devices, but no device can be used: ${why.replace(/\.$/, '')}.`,
    'Models run on the processor. docs/guide/devices.md says what a device needs.',
  );
}

function* memoryProblems({ memory }: Facts): Generator<Problem> {
  const { usableBytes, limitBytes } = memory;
  if (usableBytes === null || usableBytes === 0 || usableBytes >= MIN_MEMORY_BYTES) return;
  const limit = limitBytes === null ? '' : `, or raise this container's limit of ${formatBytes(limitBytes)}`;
  yield error(
    `Only ${formatBytes(usableBytes)} of memory are left for this program: not enough for the smallest model.`,
    `Close other programs${limit}.`,
  );
}

function* cacheProblems({ cache }: Facts): Generator<Problem> {
  const { folder, writable, freeBytes } = cache;
  if (!writable) {
    yield warning(
      `The folder of models, ${folder}, cannot be written: nothing can be downloaded, and kernels are tested at every start.`,
      'Correct its permissions, or set CTKVR_CACHE_DIR to a folder that can be written.',
    );
  } else if (freeBytes !== null && freeBytes < MIN_DISK_BYTES) {
    yield warning(
      `The disk of ${folder} has ${formatBytes(freeBytes)} left.`,
      'Free some, or set CTKVR_CACHE_DIR to a folder on a larger disk.',
    );
  }
}

function* networkProblems({ network, cache }: Facts, env: NodeJS.ProcessEnv): Generator<Problem> {
  const proxied = Object.keys(network.proxy).some((name) => !/^no_proxy$/i.test(name));
  const settings = {
    'Hugging Face hub': 'HF_ENDPOINT names another hub.',
    'Python package index': 'PIP_INDEX_URL names another index.',
    'npm registry': 'npm_config_registry names another registry.',
  };
  for (const { name, serves, url, reachable, why } of network.sources) {
    if (reachable) continue;
    const behindProxy =
      proxied && !env.NODE_USE_ENV_PROXY
        ? 'Node.js uses the proxy that is set only with NODE_USE_ENV_PROXY=1 (Node.js 22.21, 24 or newer). '
        : '';
    const own = cache.models.length > 0 ? ' Models that are downloaded already are not affected.' : '';
    yield warning(
      `The ${name} (${serves})${url === null ? '' : ` at ${url}`} cannot be reached: ${why}.`,
      `${behindProxy}Check the network connection; ${settings[name]}${own}`,
    );
  }
}
