/**
 * Thousands of random arrivals against the policy. Requests come, grow, are preempted, give memory back late, end and leave early; the
 * budget is often too small for two. Replay a failure with CTKVR_TEST_SEED=<the seed it names>.
 */
import { createRandom, propertyParameters, type Random } from '@ctkvr/testkit';
import { expect, it } from 'vitest';
import { PageAdmission } from '../../src/index.js';

/** A request as whoever runs it sees it. */
interface Simulated {
  readonly id: number;
  readonly numPrompt: number;
  /** Tokens after which its answer ends. */
  readonly numTotal: number;
  readonly bytesFor: (numTokens: number) => number;
  state: 'waiting' | 'running' | 'deferred' | 'yielding' | 'ended';
  /** Tokens whose memory it holds. */
  stored: number;
  /** Tokens that have been told to its caller: they are computed again after a preemption. */
  told: number;
  numPreempted: number;
  refused: boolean;
}

interface Outcome {
  readonly requests: readonly Simulated[];
  readonly numRefusedAtDoor: number;
  readonly admittedFirst: readonly number[];
  readonly numRounds: number;
}

function simulate(random: Random, numRequests: number): Outcome {
  const pageSize = random.integer(1, 32);
  const maxWaiting = random.integer(1, 40);
  const admission = new PageAdmission({ pageSize, reserveTokens: random.integer(0, 40), maxWaiting });
  const budget = random.integer(600, 4000);
  const requests = new Map<number, Simulated>();
  const admittedFirst: number[] = [];
  const canLeave = random.uniform() < 0.5;
  let [numArrived, numRefusedAtDoor, numRounds] = [0, 0, 0];

  const holding = () => [...requests.values()].filter(({ state }) => state !== 'waiting' && state !== 'ended');
  const act = () => {
    for (const { type, id } of admission.decide(budget)) {
      const request = requests.get(id)!;
      if (type === 'admit') {
        expect(request.state).toBe('waiting');
        // Nobody who came earlier waits still.
        for (const other of requests.values())
          if (other.state === 'waiting') expect(other.id).toBeGreaterThanOrEqual(id);
        if (request.numPreempted === 0) admittedFirst.push(id);
        request.state = 'running';
        request.stored = Math.max(request.numPrompt, request.told);
      } else if (type === 'grow') {
        expect(request.state).toBe('deferred');
        // No older one lacks a page.
        for (const other of holding()) if (other.state === 'deferred') expect(other.id).toBeGreaterThanOrEqual(id);
        request.state = 'running';
      } else if (type === 'preempt') {
        expect(['running', 'deferred']).toContain(request.state);
        expect(id).not.toBe(Math.min(...holding().map((other) => other.id))); // never the oldest
        request.state = 'yielding';
        request.numPreempted += 1;
      } else {
        request.refused = true;
        end(request);
      }
      const realBytes = holding().reduce((sum, { stored, bytesFor }) => sum + bytesFor(stored), 0);
      expect(realBytes).toBeLessThanOrEqual(admission.grantedBytes);
      expect(admission.grantedBytes).toBeLessThanOrEqual(budget);
    }
  };
  const end = (request: Simulated) => {
    request.state = 'ended';
    request.stored = 0;
    admission.leave(request.id);
  };
  const arrive = () => {
    const numPrompt = random.integer(1, 200);
    const numTotal = numPrompt + random.integer(1, 200);
    const [perToken, fixed] = [random.integer(1, 2) * 0.5, random.integer(0, 30)];
    // The whole context of a request fits alone, as callers make sure.
    const maxTokens = Math.min(random.uniform() < 0.5 ? numTotal : 500, 500);
    const bytesFor = (numTokens: number) => fixed + perToken * numTokens;
    try {
      const id = admission.arrive({ numTokens: numPrompt, maxTokens, bytesFor });
      const fresh = { stored: 0, told: 0, numPreempted: 0, refused: false, state: 'waiting' as const };
      requests.set(id, { id, numPrompt, numTotal, bytesFor, ...fresh });
    } catch (error) {
      expect(error).toMatchObject({ code: 'CTKVR_OVERLOADED' });
      expect(admission.numWaiting).toBeGreaterThanOrEqual(maxWaiting);
      numRefusedAtDoor += 1;
    }
  };

  while (numArrived < numRequests || [...requests.values()].some(({ state }) => state !== 'ended')) {
    numRounds += 1;
    if (numRounds > 400 * numRequests + 10_000) throw new Error(`no end: ${JSON.stringify([...requests.values()])}`);
    for (let burst = random.integer(0, 3); burst > 0 && numArrived < numRequests; burst -= 1) {
      arrive();
      numArrived += 1;
      act();
    }
    for (const request of holding()) {
      if (request.state === 'yielding') {
        if (random.uniform() < 0.5) continue; // it is still in a step
        request.told = Math.max(request.told, request.stored);
        request.stored = 0;
        request.state = 'waiting';
        admission.released(request.id, request.told + 1);
      } else if (request.state === 'running') {
        const next = Math.min(request.numTotal, request.stored + random.integer(1, 20));
        if (next === request.stored) end(request);
        else if (admission.wantRoom(request.id, next)) request.stored = next;
        else request.state = 'deferred';
      }
      act();
    }
    if (canLeave && random.uniform() < 0.02) {
      const open = [...requests.values()].filter(({ state }) => state !== 'ended');
      if (open.length > 0) end(open[random.integer(0, open.length - 1)]!);
      act();
    }
  }
  expect([admission.numRunning, admission.numWaiting, admission.grantedBytes]).toEqual([0, 0, 0]);
  return { requests: [...requests.values()], numRefusedAtDoor, admittedFirst, numRounds };
}

it('thousands of random arrivals: memory within the budget, in order, nobody starves, everybody ends', () => {
  const { seed } = propertyParameters(1);
  let [numPreempted, numRefusedAtDoor] = [0, 0];
  for (let run = 0; run < 60; run += 1) {
    const random = createRandom(seed + run);
    try {
      const outcome = simulate(random, 100);
      expect(outcome.requests.length + outcome.numRefusedAtDoor).toBe(100);
      // In order of arrival; nobody is refused whose context fits alone.
      expect([...outcome.admittedFirst].sort((a, b) => a - b)).toEqual(outcome.admittedFirst);
      expect(outcome.requests.filter(({ refused }) => refused)).toEqual([]);
      numPreempted += outcome.requests.reduce((sum, request) => sum + request.numPreempted, 0);
      numRefusedAtDoor += outcome.numRefusedAtDoor;
    } catch (error) {
      throw new Error(`CTKVR_TEST_SEED=${seed + run}`, { cause: error });
    }
  }
  // The cases that this is about did happen.
  expect(numPreempted).toBeGreaterThan(100);
  expect(numRefusedAtDoor).toBeGreaterThan(10);
});
