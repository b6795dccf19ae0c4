/** Which card is needed, as text for people. */
import type { CardNeed, CardPlan, CardPlans, HostSpec, Workload } from '@ctkvr/scheduler';
import { formatCount, formatTable } from '../format.js';
import { describePlacement } from './describe-plan.js';
import { gigabytes, milliseconds, PREDICTED, times, workloadRows } from './describe-workload.js';

export function describeCards({ needs, cards }: CardPlans, workload: Workload, host: HostSpec): string {
  const needTable = formatTable([['all layers', 'device', 'host', ''], ...needs.map((need) => needRow(need))], [1, 2]);
  const cardTable = formatTable(
    [['card', 'memory', 'GB/s', 'a step', 'speed-up', 'placement'], ...cards.map((found) => cardRow(found))],
    [1, 2, 3, 4],
  );
  return `${PREDICTED}\n\n${formatTable(workloadRows(workload, host))}\n${needTable}\n${cardTable}`;
}

function needRow({ place, deviceBytes, hostBytes, fitsHost }: CardNeed): string[] {
  const names = { device: 'on the device', hybrid: 'hybrid', host: 'on the host' };
  return [names[place], gigabytes(deviceBytes), gigabytes(hostBytes), fitsHost ? '' : 'more than the host has'];
}

function cardRow({ card, plan }: CardPlan): string[] {
  const sizes = [card.name, gigabytes(card.memoryBytes), formatCount(card.gigabytesPerSecond)];
  if (plan === null) return [...sizes, '', '', 'does not fit'];
  return [...sizes, milliseconds(plan.time.totalMs), times(plan.speedUp), describePlacement(plan)];
}
