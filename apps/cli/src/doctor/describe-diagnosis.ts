/** A diagnosis as text for people. */
import { countOf } from '@ctkvr/core';
import { formatBytes, formatTable } from '../format.js';
import type { Diagnosis, Problem } from './diagnosis.js';

export function describeDiagnosis(diagnosis: Diagnosis): string {
  const rows = [...programRows(diagnosis), ...machineRows(diagnosis), ...engineRows(diagnosis)];
  rows.push(...deviceRows(diagnosis), ...fileRows(diagnosis));
  const table = formatTable([...rows, ...networkRows(diagnosis)]);
  return `${table}\n${describeProblems(diagnosis.problems, diagnosis.usable)}\n`;
}

function programRows({ program }: Diagnosis): string[][] {
  const { version, node, platform, arch, release } = program;
  return [['program', `ctkvr ${version}, Node.js ${node}, ${platform} ${arch} (${release})`]];
}

function machineRows({ processor, memory }: Diagnosis): string[][] {
  const { name, features, cores, usableThreads, loadAverage } = processor;
  const { totalBytes, limitBytes, usableBytes, freeBytes, bandwidth } = memory;
  const limit = limitBytes === null ? '' : `, limited to ${formatBytes(limitBytes)} here`;
  const allowed = usableThreads < cores ? `, this program may use ${usableThreads}` : '';
  return [
    ['processor', name],
    ['', `${cores} cores${allowed}; ${loadAverage} busy on average in the last minute`],
    ...(features.length > 0 ? wrap(features).map((line, i) => [i === 0 ? 'instructions' : '', line]) : []),
    ['memory', `${formatBytes(totalBytes)}${limit}; ${formatBytes(usableBytes ?? freeBytes)} left for this program`],
    [
      '',
      bandwidth === null
        ? 'its speed could not be measured'
        : `read at ${bandwidth.gigabytesPerSecond} GB/s by ${countOf(bandwidth.numThreads, 'thread')} (measured for a moment only${loadAverage > cores / 2 ? ', on a busy machine' : ''})`,
    ],
  ];
}

function engineRows({ engine }: Diagnosis): string[][] {
  const { binary, kernels, used } = engine;
  if (binary === null) return [['engine', 'none']];
  const says = {
    baseline: 'runs everywhere',
    proven: 'tested just now: correct',
    failed: 'left out',
    untested: 'left out',
    missing: 'not here',
  };
  return [
    ['engine', `${binary.path} (${formatBytes(binary.sizeBytes)}, version ${binary.version})`],
    ['', `ggml with ${binary.ggmlFeatures.join(', ')}`],
    ...kernels.map(({ name, state, why }, i) => [
      i === 0 ? 'kernels' : '',
      `${name.padEnd(11)} ${says[state]}${why === null ? '' : `: ${why}`}${name === used ? ' (in use)' : ''}`,
    ]),
  ];
}

function deviceRows({ device }: Diagnosis): string[][] {
  if (device === null) return [];
  if (device.reason !== null) return [['device', `no device: ${device.reason}`]];
  const lines = device.devices.flatMap(({ name, description, computeCapability, totalBytes, freeBytes, unusable }) => [
    `${name}: ${description}, compute capability ${computeCapability}, ${formatBytes(totalBytes)}, ${formatBytes(freeBytes)} free`,
    (unusable ?? null) === null ? `  used with --device auto or --device ${name}` : `  not used: ${unusable}`,
  ]);
  return lines.map((line, i) => [i === 0 ? 'device' : '', line]);
}

function fileRows({ cache }: Diagnosis): string[][] {
  const room = cache.freeBytes === null ? '' : `, ${formatBytes(cache.freeBytes)} free`;
  const models = cache.models.map(({ name, sizeBytes }) => `${name} (${formatBytes(sizeBytes ?? 0)})`);
  return [
    ['cache', `${cache.folder}${cache.writable ? '' : ', cannot be written'}${room}`],
    ...(models.length > 0 ? models : ['none yet; `ctkvr pull` fetches one']).map((line, i) => [
      i ? '' : 'models',
      line,
    ]),
  ];
}

function networkRows({ network }: Diagnosis): string[][] {
  const proxies = Object.entries(network.proxy).map(([name, value]) => `${name}=${value}`);
  return [
    ...network.sources.map(({ name, url, reachable, why }, i) => [
      i === 0 ? 'network' : '',
      `${name}${url === null ? '' : `, ${url}`}: ${reachable ? 'answers' : `no answer (${why})`}`,
    ]),
    ['proxy', proxies.length > 0 ? proxies.join(' ') : 'none set'],
  ];
}

function describeProblems(problems: readonly Problem[], usable: boolean): string {
  if (problems.length === 0) return 'No problems found.';
  const each = problems.map(({ severity, what, remedy }) => `${severity}: ${what}\n  ${remedy}`);
  const verdict = usable
    ? 'Models run here; what could be better is above.'
    : 'Models do not run here until the errors above are mended.';
  return `${each.join('\n')}\n\n${verdict}`;
}

/** Words in lines of some 100 characters. */
function wrap(words: readonly string[]): string[] {
  const lines: string[] = [];
  for (const word of words) {
    const last = lines.at(-1);
    if (last === undefined || last.length + word.length > 100) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines;
}
