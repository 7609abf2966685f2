//! The loop: what is due is sent, what comes is noted.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use mio::{Events, Interest, Poll, Token};

use super::connection::Connection;
use super::outcome::Outcome;
use super::{Class, Pace, Until};

/// How long answers may take once nothing more is sent.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the loop sleeps at most: it looks at the clock for the end.
const NAP: Duration = Duration::from_millis(10);

/// What an open class has besides its connections.
struct Pool {
    interval_ns: f64,
    arrivals: u64,
    idle: Vec<usize>,
    /// When the requests that found no connection were due.
    waiting: VecDeque<u64>,
}

struct Generator<'c, 'a> {
    classes: &'c mut [Class<'a>],
    connections: Vec<Connection>,
    pools: Vec<Option<Pool>>,
    outcome: Outcome,
    began: Instant,
    asked: u64,
    until: Until<'c>,
    ended: bool,
}

/// Loads the server on this port of 127.0.0.1 until the end, and waits for all answers.
///
/// # Errors
/// When a connection fails or the server answers with an error.
pub fn run(port: u16, kinds: usize, classes: &mut [Class<'_>], until: Until<'_>) -> Result<Outcome> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut poll = Poll::new().context("no epoll")?;
    let mut connections = Vec::new();
    let mut pools = Vec::new();
    for (index, class) in classes.iter().enumerate() {
        ensure!(class.clients > 0 && class.pipeline > 0, "a class without clients or requests");
        let first = connections.len();
        for _ in 0..class.clients {
            let mut connection =
                Connection::open(address, index).with_context(|| format!("no connection to {address}"))?;
            let token = Token(connections.len());
            poll.registry().register(
                &mut connection.stream,
                token,
                Interest::READABLE | Interest::WRITABLE,
            )?;
            connections.push(connection);
        }
        pools.push(match class.pace {
            Pace::Closed => None,
            Pace::Open(rate) => Some(Pool {
                interval_ns: 1e9 / rate,
                arrivals: 0,
                idle: (first..connections.len()).collect(),
                waiting: VecDeque::new(),
            }),
        });
    }
    let is_open = pools.iter().any(Option::is_some);
    let mut generator = Generator {
        classes,
        connections,
        pools,
        outcome: Outcome::new(kinds),
        began: Instant::now(),
        asked: 0,
        until,
        ended: false,
    };
    let mut events = Events::with_capacity(1024);
    let busy_before = thread_cpu_time();
    generator.start()?;
    let mut silent_since = Instant::now();
    loop {
        generator.look_for_the_end();
        generator.send_what_is_due()?;
        if generator.is_over() {
            break;
        }
        // epoll sleeps whole milliseconds, too long for the next arrival of an open class.
        poll.poll(&mut events, Some(if is_open { Duration::ZERO } else { NAP })).or_else(|error| {
            if error.kind() == std::io::ErrorKind::Interrupted { Ok(()) } else { Err(error) }
        })?;
        if !events.is_empty() {
            silent_since = Instant::now();
        } else if silent_since.elapsed() > PATIENCE {
            bail!("the server has not answered for {PATIENCE:?}");
        }
        for event in &events {
            generator.on_event(event.token().0, event.is_writable())?;
        }
    }
    generator.outcome.elapsed = generator.began.elapsed();
    generator.outcome.busy = thread_cpu_time() - busy_before;
    Ok(generator.outcome)
}

fn thread_cpu_time() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

impl Generator<'_, '_> {
    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn start(&mut self) -> Result<()> {
        for index in 0..self.connections.len() {
            if self.pools[self.connections[index].class].is_none() {
                self.send_a_pipeline(index)?;
            }
        }
        Ok(())
    }

    fn look_for_the_end(&mut self) {
        self.ended |= match self.until {
            Until::Elapsed(length) => self.began.elapsed() >= length,
            Until::Requests(count) => self.asked >= count,
            Until::Told(flag) => flag.load(Ordering::Relaxed),
        };
    }

    fn is_over(&self) -> bool {
        self.ended
            && self.connections.iter().all(Connection::is_idle)
            && self.pools.iter().flatten().all(|pool| pool.waiting.is_empty())
    }

    /// Requests of open classes whose time has come.
    fn send_what_is_due(&mut self) -> Result<()> {
        for class in 0..self.pools.len() {
            let now_ns = self.now_ns();
            let Some(pool) = &mut self.pools[class] else { continue };
            loop {
                let due_ns = (pool.arrivals as f64 * pool.interval_ns) as u64;
                if self.ended || due_ns > now_ns {
                    break;
                }
                pool.arrivals += 1;
                pool.waiting.push_back(due_ns);
            }
            while let Some(pool) = &mut self.pools[class]
                && !pool.waiting.is_empty()
                && let Some(connection) = pool.idle.pop()
                && let Some(due_ns) = pool.waiting.pop_front()
            {
                self.send_one(connection, due_ns)?;
            }
        }
        Ok(())
    }

    fn send_one(&mut self, index: usize, due_ns: u64) -> Result<()> {
        let connection = &mut self.connections[index];
        let request = (self.classes[connection.class].next)(&mut connection.output);
        connection.expect(request, due_ns);
        self.asked += 1;
        connection.flush().context("a request cannot be sent")
    }

    fn send_a_pipeline(&mut self, index: usize) -> Result<()> {
        self.look_for_the_end();
        if self.ended {
            return Ok(());
        }
        let now_ns = self.now_ns();
        let connection = &mut self.connections[index];
        let class = &mut self.classes[connection.class];
        for _ in 0..class.pipeline {
            let request = (class.next)(&mut connection.output);
            connection.expect(request, now_ns);
        }
        self.asked += class.pipeline as u64;
        connection.flush().context("a request cannot be sent")
    }

    fn on_event(&mut self, index: usize, is_writable: bool) -> Result<()> {
        if is_writable {
            self.connections[index].flush().context("a request cannot be sent")?;
        }
        let connection = &mut self.connections[index];
        let was_idle = connection.is_idle();
        let (began, outcome) = (self.began, &mut self.outcome);
        connection.receive(|kind, due_ns| {
            let now_ns = began.elapsed().as_nanos() as u64;
            outcome.note(kind, now_ns, now_ns.saturating_sub(due_ns));
        })?;
        if was_idle || !connection.is_idle() {
            return Ok(());
        }
        let class = connection.class;
        match &mut self.pools[class] {
            None => self.send_a_pipeline(index),
            Some(pool) => match pool.waiting.pop_front() {
                Some(due_ns) => self.send_one(index, due_ns),
                None => {
                    pool.idle.push(index);
                    Ok(())
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::super::{Request, Template};
    use super::*;

    /// Answers every PING of every connection; `stall`: after so many requests it sleeps this long, once.
    fn echo(stall: Option<(u64, Duration)>) -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (counter, stall) = (std::sync::Arc::new(std::sync::Mutex::new(0)), stall);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, counter) = (stream.unwrap(), counter.clone());
                std::thread::spawn(move || {
                    let length = "*1\r\n$4\r\nPING\r\n".len();
                    let mut request = vec![0; length];
                    while stream.read_exact(&mut request).is_ok() {
                        let mut count = counter.lock().unwrap();
                        *count += 1;
                        if let Some((after, pause)) = stall
                            && *count == after
                        {
                            std::thread::sleep(pause);
                        }
                        drop(count);
                        if stream.write_all(b"+PONG\r\n").is_err() {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    fn pings<'a>(clients: usize, pipeline: usize, pace: Pace, template: &'a Template) -> Class<'a> {
        let next = Box::new(|out: &mut Vec<u8>| {
            template.write(out, 0);
            Request::of(0)
        });
        Class { clients, pipeline, pace, next }
    }

    #[test]
    fn a_closed_loop_has_an_answer_to_every_request() {
        let template = Template::of(&["PING"]);
        let mut classes = [pings(3, 4, Pace::Closed, &template)];
        let outcome = run(echo(None), 1, &mut classes, Until::Requests(120)).unwrap();
        assert_eq!(outcome.answered(), 120);
        assert!(outcome.busy > Duration::ZERO);
    }

    #[test]
    fn an_open_loop_counts_from_when_a_request_was_due() {
        let template = Template::of(&["PING"]);
        // 1,000 a second over two connections, and a pause of 0.2 s: some 200 requests fall into it, not the two that were sent.
        let mut classes = [pings(2, 1, Pace::Open(1000.0), &template)];
        let port = echo(Some((50, Duration::from_millis(200))));
        let outcome = run(port, 1, &mut classes, Until::Requests(500)).unwrap();
        assert!(outcome.answered() >= 500, "{}", outcome.answered());
        let waited = outcome.kinds[0].count_between(50_000_000, 10_000_000_000);
        assert!(waited > 100, "{waited}");
    }

    #[test]
    fn an_answer_that_is_an_error_ends_the_run() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"-ERR no\r\n").unwrap();
            stream.read_to_end(&mut Vec::new()).unwrap();
        });
        let template = Template::of(&["PING"]);
        let mut classes = [pings(1, 1, Pace::Closed, &template)];
        let error = run(port, 1, &mut classes, Until::Requests(1)).err().expect("an error");
        assert!(format!("{error:#}").contains("the server answers -ERR no"), "{error:#}");
    }
}
