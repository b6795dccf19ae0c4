/** Cards and hosts from their texts: `80GB@3350GB/s`, the name of a known card, `128GB@230GB/s@64cores`. */
import { nearestName } from '@ctkvr/core';
import { type DeviceSpec, type HostSpec, knownCards } from '@ctkvr/scheduler';
import { InvalidArgumentError } from 'commander';

/** `--host here`: as `ctkvr doctor --calibrate` measured it. */
export const HERE = 'here';

const machine = /^([\d.]+) *GB *@ *([\d.]+) *(GB|TB)\/s(?: *@ *(\d+) *cores?)?$/i;

/** Returns a card: of a known one all that is known of it. */
export function parseCard(text: string): DeviceSpec {
  const known = knownCards.find(({ name }) => name.toLowerCase() === text.trim().toLowerCase());
  if (known !== undefined) return known;
  const parsed = parse(text);
  if (parsed !== null && parsed.cores === undefined) {
    const { memoryBytes, gigabytesPerSecond } = parsed;
    return { name: text.trim(), memoryBytes, gigabytesPerSecond };
  }
  const names = knownCards.map(({ name }) => name);
  const nearest = /^[\d.]+ *GB/i.test(text) ? null : nearestName(text, names);
  const advice = nearest === null ? `or one of ${names.join(', ')}.` : `or a card; did you mean ${nearest}?`;
  throw new InvalidArgumentError(`It must be memory and bandwidth, such as 80GB@3350GB/s, ${advice}`);
}

/** Returns a host, or `here`. */
export function parseHost(text: string): HostSpec | typeof HERE {
  if (text.trim() === HERE) return HERE;
  const parsed = parse(text);
  if (parsed !== null) return parsed;
  throw new InvalidArgumentError(
    'It must be memory and bandwidth, such as 128GB@230GB/s or 128GB@230GB/s@64cores, or here for this machine.',
  );
}

function parse(text: string): HostSpec | null {
  const found = machine.exec(text.trim());
  const [memory, bandwidth] = [Number(found?.[1]), Number(found?.[2])];
  if (found === null || !(memory > 0) || !(bandwidth > 0)) return null;
  const gigabytesPerSecond = found[3]!.toUpperCase() === 'TB' ? bandwidth * 1000 : bandwidth;
  const cores = found[4] === undefined ? {} : { cores: Number(found[4]) };
  return { memoryBytes: memory * 1e9, gigabytesPerSecond, ...cores };
}
