/** A plan as text for people. */
import {
  type LayerPlace,
  layerPlaces,
  memoryParts,
  type PlacedStep,
  type Plan,
  readParts,
  type Workload,
  workParts,
} from '@ctkvr/scheduler';
import { formatCount, formatTable } from '../format.js';
import { gigabytes, milliseconds, PREDICTED, times, words, workloadRows } from './describe-workload.js';

export function describePlan(plan: Plan, workload: Workload): string {
  const tables = [headTable(plan, workload), timeTable(plan), memoryTable(plan), placementTable(plan)];
  return `${PREDICTED}\n\n${tables.join('\n')}`;
}

/** `20 layers on the device, 12 hybrid; two micro-batches`. */
export function describePlacement({ placement }: Pick<PlacedStep, 'placement'>): string {
  const names: Record<LayerPlace, string> = { device: 'on the device', hybrid: 'hybrid', host: 'on the host' };
  const used = layerPlaces.filter((place) => placement.layers[place] > 0);
  const layers = used.map((place, i) => `${placement.layers[place]}${i === 0 ? ' layers' : ''} ${names[place]}`);
  return `${layers.join(', ')}${placement.microBatches === 2 ? '; two micro-batches' : ''}`;
}

/** What places layers so, for the commands that load a model. */
function placementOptions({ placement: { layers } }: Pick<PlacedStep, 'placement'>): string {
  const { device, hybrid, host } = layers;
  if (host === 0) return `--device cuda${hybrid === 0 ? '' : ` --hybrid-layers ${hybrid}`}`;
  return device + hybrid === 0 ? '--device cpu' : 'none: layers on the host alone cannot be beside others yet';
}

function headTable(plan: Plan, workload: Workload): string {
  const { time, dense, bottleneck, ceiling, speedUp, tokensPerSecond } = plan;
  const { device } = plan;
  const what = bottleneck.part === null ? bottleneck.resource : `${bottleneck.resource}, ${words(bottleneck.part)}`;
  return formatTable([
    ...workloadRows(workload, plan.host),
    [
      'device',
      `${device.name}: ${gigabytes(device.memoryBytes)}, ${formatCount(device.gigabytesPerSecond)} GB/s by its maker`,
    ],
    ['placement', describePlacement(plan)],
    ['options', placementOptions(plan)],
    ['a step', `${milliseconds(time.totalMs)}, a token of every sequence: ${formatCount(tokensPerSecond)} tokens/s`],
    [
      'dense',
      `${milliseconds(dense.totalMs)}${dense.fits ? '' : `, if the device had ${gigabytes(dense.deviceBytes)}`}`,
    ],
    [
      'speed-up',
      `${times(speedUp)} over dense; the ceiling is ${times(ceiling.speedUp)}, by bytes alone, all on the device`,
    ],
    [
      'bottleneck',
      `${what}: ${milliseconds(bottleneck.ms)}, ${Math.round(100 * bottleneck.shareOfStep)} % of the step`,
    ],
  ]);
}

function timeTable({ time, bytes, weightsBytes, denseBytes }: Plan): string {
  const ms = (value: number | undefined) => (value === undefined ? '' : value.toFixed(2));
  const read = { ...bytes, weights: weightsBytes } as Readonly<Record<string, number>>;
  const all = readParts.reduce((sum, part) => sum + bytes[part], 0);
  const rows = workParts.map((part) => [
    ...[words(part), read[part] === undefined ? '' : megabytes(read[part])],
    ...[ms(time.device[part]), ms(time.host[part])],
  ]);
  return formatTable(
    [
      ['part', 'MB read', 'device ms', 'host ms'],
      ...rows,
      ['hops', '', '', ms(time.hopMs)],
      ['of a sequence', megabytes(all), `${((100 * all) / denseBytes).toFixed(1)} %`, 'of dense'],
    ],
    [1, 2, 3],
  );
}

function memoryTable({ memory, device, host }: Plan): string {
  const cell = (bytes: number) => (bytes === 0 ? '' : (bytes / 1e9).toFixed(2));
  const sum = (of: 'device' | 'host') => memoryParts.reduce((total, part) => total + memory[of][part], 0);
  return formatTable(
    [
      ['memory', 'device GB', 'host GB'],
      ...memoryParts.map((part) => [words(part), cell(memory.device[part]), cell(memory.host[part])]),
      ['in all', cell(sum('device')), cell(sum('host'))],
      ['there is', cell(device.memoryBytes), cell(host.memoryBytes)],
    ],
    [1, 2],
  );
}

function placementTable(plan: Plan): string {
  const row = (name: string, { memory, fits, time }: PlacedStep) => {
    const sum = (of: 'device' | 'host') => memoryParts.reduce((total, part) => total + memory[of][part], 0);
    return [name, gigabytes(sum('device')), gigabytes(sum('host')), milliseconds(time.totalMs), fits ? 'yes' : 'no'];
  };
  return formatTable(
    [
      ['placement', 'device', 'host', 'a step', 'fits'],
      row(`chosen: ${describePlacement(plan)}`, plan),
      ...plan.uniform.map((step) => row(describePlacement(step), step)),
    ],
    [1, 2, 3],
  );
}

function megabytes(bytes: number): string {
  return formatCount(bytes / 1e6);
}
