//! The shop's store, and the client the api asks it with. The protocol is in stock.rs.

use std::io;
use std::sync::Arc;

use heddle_runtime::signals;
use heddle_runtime::tasks::Tasks;
use parking_lot::Mutex;
use tokio::io::{
    AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};

use crate::failure::Failure;
use crate::shop::listen::{self, ListenAddress};
use crate::shop::serve;
use crate::shop::stock::{LINE_LIMIT_BYTES, parse_answer, serve_line};

/// What is in stock when the store opens.
const FIRST_STOCK: u64 = 128;
/// How many idle connections the client keeps.
const IDLE_CONNECTIONS: usize = 64;

/// Serves until SIGTERM.
pub async fn run(listen: ListenAddress) -> Result<(), Failure> {
    let terminated = signals::terminated();
    let listener = listen::bind(listen).await?;
    let tasks = Tasks::new();
    accept(listener, &tasks);
    serve::until_terminated(&tasks, terminated).await
}

fn accept(listener: TcpListener, tasks: &Tasks) {
    let all = tasks.clone();
    let items = Arc::new(Mutex::new(FIRST_STOCK));
    tasks.spawn("store.accept", async move {
        loop {
            let accepted = tokio::select! {
                () = all.drain().cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = serve_connection(stream, Arc::clone(&items), all.clone());
                    all.spawn("store.connection", async move {
                        // What a client does wrong ends its own connection only.
                        let _ = connection.await;
                    });
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
            }
        }
    });
}

async fn serve_connection(
    stream: TcpStream,
    items: Arc<Mutex<u64>>,
    tasks: Tasks,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufReader::new(stream);
    loop {
        // Between two commands is the one place where nothing is half done.
        let line = tokio::select! {
            () = tasks.drain().cancelled() => return Ok(()),
            line = read_line(&mut stream) => line?,
        };
        let Some(line) = line else { return Ok(()) };
        let answer = serve_line(&mut items.lock(), &line);
        stream.write_all(format!("{answer}\n").as_bytes()).await?;
    }
}

/// One line without its end, or nothing when the other side has ended.
async fn read_line<S: AsyncBufRead + Unpin>(stream: &mut S) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.take(LINE_LIMIT_BYTES).read_line(&mut line).await?;
    if read == 0 {
        return Ok(None);
    }
    match line.strip_suffix('\n') {
        Some(line) => Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned())),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "a line too long, or cut off")),
    }
}

/// Asks the store on connections that stay open.
pub struct StoreClient {
    address: String,
    idle: Mutex<Vec<BufReader<TcpStream>>>,
}

impl StoreClient {
    /// `address` is `name:port`, resolved with every new connection.
    pub fn new(address: String) -> Self {
        Self { address, idle: Mutex::new(Vec::new()) }
    }

    /// How many items the store has.
    pub async fn count(&self) -> Result<u64, String> {
        // A kept connection may have been closed by the other side while it was idle; asking twice
        // does no harm, so that is tried again on a new one.
        let kept = self.idle.lock().pop();
        if let Some(stream) = kept
            && let Ok(answer) = self.ask(stream).await
        {
            return parse_answer(&answer);
        }
        let connected = TcpStream::connect(&self.address).await;
        let stream =
            connected.map_err(|error| format!("cannot connect to {}: {error}", self.address))?;
        let _ = stream.set_nodelay(true);
        let answer = self.ask(BufReader::new(stream)).await;
        parse_answer(&answer.map_err(|error| format!("{} broke off: {error}", self.address))?)
    }

    async fn ask(&self, mut stream: BufReader<TcpStream>) -> io::Result<String> {
        stream.write_all(b"COUNT\n").await?;
        let Some(answer) = read_line(&mut stream).await? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let mut idle = self.idle.lock();
        if idle.len() < IDLE_CONNECTIONS {
            idle.push(stream);
        }
        Ok(answer)
    }
}
