//! What handlers and clients saw.

use std::fmt;
use std::io::ErrorKind;

use oneloop::CloseReason;

#[derive(PartialEq, Debug)]
pub(crate) struct Seen {
    pub(crate) handler: Vec<HandlerSaw>,
    pub(crate) client: Vec<ClientSaw>,
}

#[derive(PartialEq)]
pub(crate) enum HandlerSaw {
    Open,
    /// All that was shown before something else happened.
    Data(Vec<u8>),
    /// For the first time.
    Drained,
    PeerClosed,
    Close(CloseReason),
}

#[derive(PartialEq)]
pub(crate) enum ClientSaw {
    /// The error that ended it.
    Wrote(Option<ErrorKind>),
    /// The end of file or the error that ended it.
    Read(Vec<u8>, Option<Result<(), ErrorKind>>),
}

impl fmt::Debug for HandlerSaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HandlerSaw::Open => write!(f, "open"),
            HandlerSaw::Data(data) => write!(f, "{} bytes", data.len()),
            HandlerSaw::Drained => write!(f, "drained"),
            HandlerSaw::PeerClosed => write!(f, "peer closed"),
            HandlerSaw::Close(reason) => write!(f, "close: {reason}"),
        }
    }
}

impl fmt::Debug for ClientSaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientSaw::Wrote(error) => write!(f, "wrote: {error:?}"),
            ClientSaw::Read(data, end) => write!(f, "read {} bytes: {end:?}", data.len()),
        }
    }
}
