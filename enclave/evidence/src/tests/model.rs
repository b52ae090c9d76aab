//! A model of attest/1, explored exhaustively at small bounds: honest verifiers and TEEs, and an
//! attacker that reads every message, forwards, replays, reflects and invents, opens connections of
//! its own, and owns a genuine TEE.
//!
//! Cryptography is ideal, but what is bound together is not modelled: leaves are made by the real
//! [`Binding::leaf`]. A binding is removed by putting zeros in its place on both sides; the explorer
//! must then find the attack that the binding is there for, or it could find nothing.
//!
//! The property: when a verifier accepts, the TEE that signed was the other end of the verifier's
//! connection at a moment after the nonce was drawn, and the keys shown are that TEE's.

use std::collections::{BTreeSet, HashMap, VecDeque};

use chrysalis_wire::Digest;

use crate::{Binding, Leaf, Role};

/// Who there is. Each has a TLS key and a keyset of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Agent {
    /// The verifier: a TLS client in a TEE (a proxy), which can prove itself too.
    Proxy,
    /// The worker the proxy looks for: a TLS server in a TEE, which may ask for proof too.
    Worker,
    /// A genuine TEE of the same code that the attacker owns. It too is honest inside.
    Other,
    /// The attacker: no TEE.
    Attacker,
}

use Agent::{Attacker, Other, Proxy, Worker};

impl Agent {
    fn proves(self) -> bool {
        self != Attacker
    }

    fn digest(self, tag: u8) -> Digest {
        let mut bytes = [tag; 32];
        bytes[0] = self as u8 + 1;
        Digest(bytes)
    }
}

/// A TLS connection. The attacker reads what passes; it writes only where it is an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Connection {
    client: Agent,
    server: Agent,
    /// Whose keys the certificates carry.
    client_key: Agent,
    server_key: Agent,
    /// Connections with the same number have the same exporters.
    secrets: u8,
    /// Each end as a verifier of the other.
    as_client: Verifier,
    as_server: Verifier,
}

/// A verifying end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Verifier {
    /// Nonce of the challenge, and who was the other end when it was drawn.
    waiting: Option<(u8, Agent)>,
    closed: bool,
}

const FRESH: Verifier = Verifier { waiting: None, closed: false };

impl Connection {
    fn end(&self, role: Role) -> Agent {
        if role == Role::Client { self.client } else { self.server }
    }

    fn key(&self, role: Role) -> Agent {
        if role == Role::Client { self.client_key } else { self.server_key }
    }

    fn verifier(&mut self, role: Role) -> &mut Verifier {
        if role == Role::Client { &mut self.as_client } else { &mut self.as_server }
    }
}

/// A quote the attacker has seen, and where it comes from. Only `leaf` is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Quote {
    signer: Agent,
    leaf: [u8; 32],
    nonce: u8,
    connection: u8,
    /// The key in whose name it was made.
    key: Agent,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    connections: Vec<Connection>,
    nonces: u8,
    quotes: BTreeSet<Quote>,
    accepted: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    Open {
        client: Agent,
        server: Agent,
        client_key: Agent,
        server_key: Agent,
        secrets: Option<u8>,
    },
    Challenge {
        connection: usize,
        verifier: Role,
    },
    Prove {
        connection: usize,
        prover: Role,
        nonce: u8,
    },
    Deliver {
        connection: usize,
        verifier: Role,
        quote: Quote,
        keys: Agent,
    },
    /// The secrets of a connection leak: from now on the attacker is its server.
    Take {
        connection: usize,
    },
}

/// What a leaf binds; all of it in the protocol as it is.
#[derive(Clone, Copy, Debug)]
struct Bound {
    nonce: bool,
    exporter: bool,
    /// Role byte, and a label for each direction.
    role_byte: bool,
    label: bool,
    /// In the leaf, and as the keyset's TLS key.
    spki: bool,
    keyset: bool,
}

const ALL: Bound =
    Bound { nonce: true, exporter: true, role_byte: true, label: true, spki: true, keyset: true };

/// What the attacker can do beyond the network.
#[derive(Clone, Copy, Debug, Default)]
struct Powers {
    /// It has stolen the TLS keys of proxy and worker.
    stolen_keys: bool,
    /// It gives two connections that it is an end of the same exporters, as triple handshakes did
    /// before TLS 1.3. Where it also has the worker's key there is nothing left to tell them apart.
    same_exporters: bool,
    /// It can take over a connection that was the worker's.
    taken_connections: bool,
}

/// How a verifier was deceived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attack {
    Replay,
    Relay,
    Reflection,
    Diversion,
    Keys,
}

struct Model {
    bound: Bound,
    powers: Powers,
    /// At most so many connections.
    connections: usize,
}

/// The bounds: connections, challenges of all verifiers together, quotes seen. Every known attack
/// on such a protocol needs two connections or two challenges, and one quote.
const CONNECTIONS: usize = 3;
const NONCES: u8 = 2;
const QUOTES: usize = 2;
/// The attacker's own nonce; those of verifiers follow.
const OWN_NONCE: u8 = 0;

impl Model {
    /// The leaf of a proof by the end `prover` of `connection`, whose key is `key`.
    fn leaf(&self, c: &Connection, prover: Role, nonce: u8, keys: Agent) -> Leaf {
        let bound = self.bound;
        let mut exporter = [0; 32];
        if bound.exporter {
            exporter[0] = c.secrets + 1;
            exporter[1] = if bound.label { prover as u8 } else { 0 };
        }
        let zeros = Digest([0; 32]);
        Binding {
            role: if bound.role_byte { prover } else { Role::Server },
            tls_spki: if bound.spki { c.key(prover).digest(1) } else { zeros },
            nonce: if bound.nonce { [nonce + 1; 32] } else { [0; 32] },
            exporter,
            keyset_digest: if bound.keyset { keys.digest(2) } else { zeros },
            device_digest: zeros,
        }
        .leaf()
    }

    fn held_keys(&self) -> Vec<Agent> {
        if self.powers.stolen_keys { vec![Attacker, Worker, Proxy] } else { vec![Attacker] }
    }

    fn actions(&self, state: &State) -> Vec<Action> {
        let mut actions = Vec::new();
        self.openings(state, &mut actions);
        for (connection, c) in state.connections.iter().enumerate() {
            for role in [Role::Client, Role::Server] {
                let (own, peer) = (c.end(role), c.end(role.other()));
                if own.proves() {
                    self.turns(state, connection, role, peer, &mut actions);
                }
            }
            if self.powers.taken_connections && c.server == Worker {
                actions.push(Action::Take { connection });
            }
        }
        actions
    }

    /// Connections: the proxy opens one, the attacker decides where it ends and opens the others.
    fn openings(&self, state: &State, actions: &mut Vec<Action>) {
        if state.connections.len() >= self.connections {
            return;
        }
        let open = |client, server, client_key, server_key, secrets| Action::Open {
            client,
            server,
            client_key,
            server_key,
            secrets,
        };
        if state.connections.iter().all(|c| c.client != Proxy) {
            for server in [Worker, Other] {
                actions.push(open(Proxy, server, Proxy, server, None));
            }
            for key in self.held_keys() {
                actions.push(open(Proxy, Attacker, Proxy, key, None));
            }
        }
        let mut secrets = vec![None];
        if self.powers.same_exporters {
            let own = |c: &&Connection| c.client == Attacker || c.server == Attacker;
            secrets.extend(state.connections.iter().filter(own).map(|c| Some(c.secrets)));
        }
        for server in [Worker, Other] {
            for key in self.held_keys() {
                for secrets in &secrets {
                    actions.push(open(Attacker, server, key, server, *secrets));
                }
            }
        }
    }

    /// What an honest end can do, or be made to do by what arrives.
    fn turns(
        &self,
        state: &State,
        connection: usize,
        role: Role,
        peer: Agent,
        actions: &mut Vec<Action>,
    ) {
        let mut c = state.connections[connection];
        let hostile = peer == Attacker;
        let theirs = *c.verifier(role.other());
        let verifier = *c.verifier(role);
        if !verifier.closed && verifier.waiting.is_none() && state.nonces < NONCES {
            actions.push(Action::Challenge { connection, verifier: role });
        }
        // The attacker challenges with whatever it has seen; an honest peer with its own nonce.
        let nonces = if hostile {
            (OWN_NONCE..=state.nonces).collect()
        } else {
            theirs.waiting.map(|(nonce, _)| nonce).into_iter().collect::<Vec<_>>()
        };
        if state.quotes.len() < QUOTES {
            for nonce in nonces {
                actions.push(Action::Prove { connection, prover: role, nonce });
            }
        }
        if verifier.waiting.is_some() {
            let mine = |q: &&Quote| q.connection as usize == connection && q.signer == peer;
            for quote in state.quotes.iter().filter(|q| hostile || mine(q)) {
                let keysets =
                    if hostile { vec![quote.signer, Attacker] } else { vec![quote.signer] };
                for keys in keysets {
                    let quote = *quote;
                    actions.push(Action::Deliver { connection, verifier: role, quote, keys });
                }
            }
        }
    }

    /// The state after `action`, or the attack it completes.
    fn step(&self, state: &State, action: Action) -> Result<State, Attack> {
        let mut next = state.clone();
        match action {
            Action::Open { client, server, client_key, server_key, secrets } => {
                let secrets = secrets.unwrap_or(next.connections.len() as u8);
                let (as_client, as_server) = (FRESH, FRESH);
                next.connections.push(Connection {
                    client,
                    server,
                    client_key,
                    server_key,
                    secrets,
                    as_client,
                    as_server,
                });
            }
            Action::Challenge { connection, verifier } => {
                next.nonces += 1;
                let c = &mut next.connections[connection];
                let peer = c.end(verifier.other());
                let end = c.verifier(verifier);
                end.waiting = Some((next.nonces, peer));
            }
            Action::Prove { connection, prover, nonce } => {
                let c = &next.connections[connection];
                let signer = c.end(prover);
                let leaf = self.leaf(c, prover, nonce, signer).0;
                let (connection, key) = (connection as u8, c.key(prover));
                next.quotes.insert(Quote { signer, leaf, nonce, connection, key });
            }
            Action::Take { connection } => next.connections[connection].server = Attacker,
            Action::Deliver { connection, verifier, quote, keys } => {
                let c = next.connections[connection];
                let end = next.connections[connection].verifier(verifier);
                let Some((nonce, peer)) = end.waiting.take() else { return Ok(next) };
                let prover = verifier.other();
                let expected = self.leaf(&c, prover, nonce, keys);
                // The keyset names the TLS key of the connection; the attacker's names any.
                let named = !self.bound.spki || keys == Attacker || c.key(prover) == keys;
                if expected.0 != quote.leaf || !named {
                    end.closed = true;
                    return Ok(next);
                }
                next.accepted = true;
                if keys != quote.signer {
                    return Err(Attack::Keys);
                }
                if peer != quote.signer {
                    return Err(if quote.signer == c.end(verifier) {
                        Attack::Reflection
                    } else if quote.nonce != nonce {
                        Attack::Replay
                    } else if quote.key != c.key(prover) {
                        Attack::Diversion
                    } else {
                        Attack::Relay
                    });
                }
            }
        }
        Ok(next)
    }

    /// Breadth first, so what is found is a shortest one: its steps and what it is. Otherwise the
    /// number of states, and of those in which somebody was accepted.
    fn explore(&self) -> Result<(usize, usize), (Vec<Action>, Attack)> {
        // Each state by its number; how each came about; those whose actions were not tried yet.
        let mut numbers = HashMap::from([(State::default(), 0)]);
        let mut steps: Vec<Option<(usize, Action)>> = vec![None];
        let mut queue = VecDeque::from([(State::default(), 0)]);
        let mut accepting = 0;
        while let Some((state, number)) = queue.pop_front() {
            accepting += usize::from(state.accepted);
            for action in self.actions(&state) {
                let next = match self.step(&state, action) {
                    Ok(next) => next,
                    Err(attack) => {
                        let mut way = vec![action];
                        let mut at = number;
                        while let Some((before, action)) = steps[at] {
                            way.push(action);
                            at = before;
                        }
                        way.reverse();
                        return Err((way, attack));
                    }
                };
                if !numbers.contains_key(&next) {
                    numbers.insert(next.clone(), steps.len());
                    queue.push_back((next, steps.len()));
                    steps.push(Some((number, action)));
                }
            }
        }
        Ok((numbers.len(), accepting))
    }
}

const NETWORK: Powers =
    Powers { stolen_keys: false, same_exporters: false, taken_connections: false };
const STOLEN: Powers = Powers { stolen_keys: true, ..NETWORK };
const SAME_EXPORTERS: Powers = Powers { same_exporters: true, ..NETWORK };
const TAKEN: Powers = Powers { taken_connections: true, ..NETWORK };

fn find(bound: Bound, powers: Powers) -> Attack {
    let (steps, attack) = Model { bound, powers, connections: CONNECTIONS }
        .explore()
        .expect_err("no attack: the model cannot tell");
    for step in steps {
        eprintln!("  {step:?}");
    }
    eprintln!("  => {attack:?}");
    attack
}

#[track_caller]
fn safe(bound: Bound, powers: Powers, connections: usize) {
    match (Model { bound, powers, connections }).explore() {
        Ok((states, accepting)) => {
            eprintln!("{states} states, {accepting} with an acceptance: {powers:?}");
            assert!(accepting > 0, "nobody is ever accepted: the property holds for no reason");
        }
        Err((steps, attack)) => panic!("{attack:?}: {steps:#?}"),
    }
}

#[test]
fn no_attacker_on_the_network_deceives_a_verifier() {
    safe(ALL, NETWORK, CONNECTIONS);
}

#[test]
fn no_attacker_with_stolen_tls_keys_deceives_a_verifier() {
    safe(ALL, STOLEN, CONNECTIONS);
}

#[test]
fn no_attacker_with_equal_exporters_deceives_a_verifier() {
    safe(ALL, SAME_EXPORTERS, CONNECTIONS);
}

#[test]
fn no_attacker_who_takes_over_a_connection_deceives_its_next_challenge() {
    safe(ALL, TAKEN, CONNECTIONS);
}

#[test]
fn no_attacker_with_stolen_keys_and_a_taken_connection_deceives_its_next_challenge() {
    safe(ALL, Powers { stolen_keys: true, ..TAKEN }, 2);
}

#[test]
fn without_the_nonce_a_taken_connection_replays_its_evidence() {
    assert_eq!(find(Bound { nonce: false, ..ALL }, TAKEN), Attack::Replay);
}

#[test]
fn without_the_exporter_a_stolen_key_relays_the_challenge() {
    assert_eq!(find(Bound { exporter: false, ..ALL }, STOLEN), Attack::Relay);
}

#[test]
fn without_role_and_direction_a_verifier_is_shown_its_own_evidence() {
    let bound = Bound { role_byte: false, label: false, ..ALL };
    assert_eq!(find(bound, STOLEN), Attack::Reflection);
    // Each alone keeps it away.
    safe(Bound { role_byte: false, ..ALL }, STOLEN, 2);
    safe(Bound { label: false, ..ALL }, STOLEN, 2);
}

#[test]
fn without_the_key_another_tees_evidence_is_diverted() {
    assert_eq!(find(Bound { spki: false, ..ALL }, SAME_EXPORTERS), Attack::Diversion);
}

#[test]
fn without_the_keyset_somebody_elses_keys_stand_beside_genuine_evidence() {
    assert_eq!(find(Bound { keyset: false, ..ALL }, TAKEN), Attack::Keys);
}
